//! The functions that modules import, one file a subject.
//!
//! Each is a thin reading of its arguments around [`VmState`]; whatever the module passes, the answer is a
//! status, never a panic of the host. Statuses and their order are Envoy's.

use wasmtime::{Caller, Linker};

use crate::abi::Status;
use crate::vm::state::VmState;

mod buffers;
mod calls;
mod foreign;
mod grpc;
mod guest;
mod headers;
mod metrics;
mod properties;
mod shared;
mod streams;
mod system;
mod wasi;

use guest::Guest;

/// Where imports come from.
const ENV: &str = "env";

/// Why a host function did not do what it was asked.
enum Fault {
    /// The module is told.
    Status(Status),
    /// The module's own allocator trapped, and takes the VM with it.
    Trap(wasmtime::Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

type Answer<T = ()> = Result<T, Fault>;

/// Adds every host function.
pub(crate) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    buffers::link(linker)?;
    calls::link(linker)?;
    foreign::link(linker)?;
    grpc::link(linker)?;
    headers::link(linker)?;
    metrics::link(linker)?;
    properties::link(linker)?;
    shared::link(linker)?;
    streams::link(linker)?;
    system::link(linker)?;
    wasi::link(linker)
}

/// Envoy refuses most functions to `_initialize`, `main` and `_start`.
fn restricted(name: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!("{name} cannot be called before proxy_on_vm_start"))
}

/// Runs the host function `name` and turns its result into the number the module gets.
fn answer(
    mut caller: Caller<'_, VmState>,
    name: &'static str,
    call: impl FnOnce(&mut Guest<'_>) -> Answer,
) -> wasmtime::Result<u32> {
    if caller.data().starting && name != "proxy_log" {
        return Err(restricted(name));
    }
    caller.data_mut().count(name);
    match call(&mut Guest::new(caller)) {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Fault::Status(status)) => Ok(status as u32),
        Err(Fault::Trap(error)) => Err(error),
    }
}
