//! Modules, compiled once a process: tests of one binary share what takes a second to compile.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use wasmtime::{Config, Engine, OptLevel};

use crate::error::Error;

/// An engine and what it compiled, by the digest of the bytes.
type Compiled = (Engine, HashMap<Vec<u8>, wasmtime::Module>);

/// A compiled module.
#[derive(Clone)]
pub struct Module {
    pub(crate) engine: Engine,
    pub(crate) module: wasmtime::Module,
}

impl Module {
    /// Compiles a `.wasm` file, or finds it compiled.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no module.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::File { path: path.to_path_buf(), source })?;
        Self::from_bytes(&bytes)
    }

    /// Compiles a module from its bytes (or from text, where wasmtime's `wat` feature is on), or finds it compiled.
    ///
    /// # Errors
    ///
    /// The bytes are no module.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        static COMPILED: Mutex<Option<Compiled>> = Mutex::new(None);
        // Held while compiling: a second test that wants the same module should wait for it, not compile it again.
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        let (engine, modules) = match &mut *compiled {
            Some(compiled) => compiled,
            empty => empty.insert((engine()?, HashMap::new())),
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec();
        let module = match modules.get(&digest) {
            Some(module) => module.clone(),
            None => {
                let module = wasmtime::Module::new(engine, bytes).map_err(Error::Compile)?;
                modules.insert(digest, module.clone());
                module
            }
        };
        Ok(Self { engine: engine.clone(), module })
    }
}

fn engine() -> Result<Engine, Error> {
    let mut config = Config::new();
    // Fuel makes an endless loop end at the same instruction on every machine; a deadline would not.
    config.consume_fuel(true);
    config.cranelift_opt_level(OptLevel::Speed);
    Engine::new(&config).map_err(Error::Compile)
}

/// What a plugin is loaded from.
pub enum Source {
    /// A `.wasm` file.
    File(PathBuf),
    /// A module that is compiled already.
    Module(Module),
}

impl Source {
    pub(crate) fn load(self) -> Result<Module, Error> {
        match self {
            Self::File(path) => Module::from_file(path),
            Self::Module(module) => Ok(module),
        }
    }
}

impl From<&str> for Source {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::File(path.into())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Module> for Source {
    fn from(module: &Module) -> Self {
        Self::Module(module.clone())
    }
}
