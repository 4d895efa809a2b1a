//! What can go wrong around a filter, and what went wrong in it.

use std::fmt;
use std::path::PathBuf;

use crate::logs::{Logs, VmName};
use crate::outcome::Outcome;

/// Why a plugin did not start, or a call into it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The module's file is not there.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a WebAssembly module that this engine takes.
    #[error("the module does not compile: {0:#}")]
    Compile(wasmtime::Error),
    /// The module says no ABI version, or one that this host does not speak.
    #[error("the module exports no proxy_abi_version_0_2_0 or proxy_abi_version_0_2_1")]
    Abi,
    /// The module imports what Envoy does not have, or by another signature.
    #[error("the module imports {module}.{name}: {problem}")]
    Import {
        /// Module of the import.
        module: String,
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The module exports a callback with a wrong signature.
    #[error("the module exports {name}: {problem}")]
    Export {
        /// Name of the export.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The module gives the host no way to allocate in its memory.
    #[error("the module exports neither malloc nor proxy_on_memory_allocate")]
    NoAllocator,
    /// The module cannot be instantiated: it wants more memory than there may be, or its start function traps.
    #[error("the module does not start: {0:#}")]
    Link(wasmtime::Error),
    /// `proxy_on_vm_start` or `proxy_on_configure` returned false: Envoy rejects the listener.
    #[error("{callback} refused the configuration in the {vm} VM; it logged:\n{logs}")]
    Refused {
        /// Which callback.
        callback: &'static str,
        /// Where.
        vm: VmName,
        /// What it logged.
        logs: Logs,
    },
    /// The module trapped; its VM is dead.
    #[error(transparent)]
    Trap(Box<Trap>),
    /// The callout was answered, or timed out, or its VM died.
    #[error("the callout is no longer pending")]
    NotPending,
    /// The stream was finished.
    #[error("the stream is finished")]
    Finished,
    /// The host was called back from inside itself.
    #[error("the VM is busy")]
    Busy,
}

impl Error {
    /// The trap, if it is one.
    pub fn trap(&self) -> Option<&Trap> {
        match self {
            Self::Trap(trap) => Some(trap),
            _ => None,
        }
    }
}

impl From<Trap> for Error {
    fn from(trap: Trap) -> Self {
        Self::Trap(Box::new(trap))
    }
}

/// A module fell over. Its VM runs nothing any more; see [`FailurePolicy`](crate::FailurePolicy).
#[derive(Debug, Clone)]
pub struct Trap {
    /// Which VM.
    pub vm: VmName,
    /// The callback it was in.
    pub callback: &'static str,
    /// What the engine says.
    pub reason: String,
    /// The functions that were being called, innermost first, by name where the module was built with names.
    pub backtrace: Vec<String>,
    /// Whether it ran out of the fuel that one callback gets: most likely an endless loop.
    pub out_of_fuel: bool,
    /// Whether it wanted more memory than [`Host::memory_limit`](crate::Host::memory_limit) allows, now or before.
    pub out_of_memory: bool,
    /// What the module logged during this callback. The SDK's panic hook logs the panic at critical level.
    pub logs: Logs,
    /// What became of the stream that was being sent, where one was.
    pub outcome: Option<Outcome>,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} trapped in the {} VM: {}", self.callback, self.vm, self.reason)?;
        if self.out_of_fuel {
            f.write_str(" (an endless loop? see Host::fuel_per_call)")?;
        }
        if self.out_of_memory {
            f.write_str(" (it was refused memory: see Host::memory_limit)")?;
        }
        if self.logs.0.is_empty() {
            f.write_str("; it logged nothing")?;
        } else {
            write!(f, "; it logged:\n{}", self.logs)?;
        }
        for (number, frame) in self.backtrace.iter().enumerate() {
            write!(f, "\n  {number}: {frame}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Trap {}
