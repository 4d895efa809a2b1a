//! Where the things are that the harness starts: the repository's files, the built servers, the filters,
//! Envoy. Nothing is built or installed here: an error says which `make` target does.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::stack::read;

/// Names another Envoy than the one that `tests/setup.sh` found.
pub const ENVOY_VARIABLE: &str = "TOLLGATE_ENVOY";

/// Where Envoy looks for its dynamic modules: its own variable, which names another folder here too.
pub const NATIVE_VARIABLE: &str = "ENVOY_DYNAMIC_MODULES_SEARCH_PATH";

/// What is needed to start the stack.
#[derive(Debug, Clone)]
pub struct Toolbox {
    /// Root of the repository.
    pub repository: PathBuf,
    /// Folder of the built binaries.
    pub binaries: PathBuf,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// Folder of the filters' `.wasm` files.
    pub wasm: PathBuf,
    /// Folder of the filters as a library. It need not be there: only `filters: native` asks for it.
    pub native: PathBuf,
}

impl Toolbox {
    /// Finds everything; the binaries lie beside the running executable, so one cargo profile serves both.
    pub fn find() -> Result<Self> {
        let repository = repository()?;
        let toolbox = Self {
            binaries: binaries()?,
            envoy: envoy(&repository)?,
            wasm: repository.join("target/wasm"),
            native: env::var_os(NATIVE_VARIABLE)
                .map_or_else(|| repository.join("target/native"), PathBuf::from),
            repository,
        };
        if !toolbox.wasm.is_dir() {
            bail!("no filters in {}: run `make wasm`", toolbox.wasm.display());
        }
        toolbox.binary("xds-server")?;
        toolbox.binary("api-service")?;
        Ok(toolbox)
    }

    /// What the bootstrap of an Envoy has beside for native filters, where the library is there.
    pub fn native_bootstrap(&self) -> Result<Option<String>> {
        let library = self.native.join("libtollgate_gateway.so");
        library.is_file().then(|| read(&repository()?.join("envoy-configs/native.yaml"))).transpose()
    }

    /// Path of one of the workspace's binaries.
    pub fn binary(&self, name: &str) -> Result<PathBuf> {
        let path = self.binaries.join(name);
        if !path.is_file() {
            bail!("no {name} in {}: run `make build`", self.binaries.display());
        }
        Ok(path)
    }

    /// Path of one of the files that operators copy.
    pub fn envoy_config(&self, name: &str) -> PathBuf {
        self.repository.join("envoy-configs").join(name)
    }
}

/// The repository: where we were built, or the current directory where that has been moved since.
fn repository() -> Result<PathBuf> {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
    let candidates = built_in.into_iter().chain(env::current_dir().ok());
    for candidate in candidates {
        if candidate.join("envoy-configs").is_dir() {
            return Ok(candidate);
        }
    }
    bail!("no envoy-configs folder here: run this in the root of the repository")
}

/// `target/debug` for `target/debug/tollgate-run` as well as for `target/debug/deps/e2e-0123`.
fn binaries() -> Result<PathBuf> {
    let own = env::current_exe().context("asking for the path of this executable")?;
    let folder = own.parent().context("this executable lies in no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_path_buf())
}

fn envoy(repository: &Path) -> Result<PathBuf> {
    if let Some(path) = env::var_os(ENVOY_VARIABLE) {
        return Ok(path.into());
    }
    let kept = repository.join(".run/envoy-path");
    let path = fs::read_to_string(&kept)
        .with_context(|| format!("reading {}: run `make setup`, or set {ENVOY_VARIABLE}", kept.display()))?;
    let path = PathBuf::from(path.trim());
    if !path.is_file() {
        bail!("{} is no longer there: run `make setup`", path.display());
    }
    Ok(path)
}
