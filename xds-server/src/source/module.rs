//! The filters' modules: read from files, checked, kept by their SHA-256, and read again when a file changes.
//!
//! A module that is no whole WebAssembly is refused, and the one before it stays. Earlier ones stay for a while, too: an
//! Envoy that was told of one may still come for it. Not here: serving them (`http::wasm`), and how an Envoy is told of
//! them (`translate`).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::watch::Watch;
use crate::status::{lock, unix_seconds};
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Bytes in one module at most: a hundred times ours.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Modules of one name that are kept, the current one included.
const KEPT: usize = 4;

/// Envoy forgets the code of a filter that it has not loaded anew for a day, and then refuses configurations for it. Half
/// of that leaves time for a server that was away.
const REFRESH: Duration = Duration::from_secs(12 * 60 * 60);

/// What a module starts with: magic number and version (WebAssembly Core Specification 1.0, section 5.5.16).
const PREAMBLE: [u8; 8] = *b"\0asm\x01\0\0\0";

/// Why a file is no module to serve.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The file can't be opened or read.
    #[error("can't read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is larger than any filter.
    #[error("{path} has more than {MAX_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{path} is no WebAssembly module of version 1")]
    NotWasm {
        /// The file.
        path: PathBuf,
    },
    /// The file ends within a section: it is being written, or was cut.
    #[error("{path} is cut short")]
    CutShort {
        /// The file.
        path: PathBuf,
    },
}

/// The modules that are current.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Current {
    /// SHA-256 by name, 64 lower-case hexadecimal digits.
    pub sha256: BTreeMap<String, String>,
    /// Grows as time goes by, on all replicas alike: Envoys are to load the modules anew, lest they forget them.
    pub refresh: u64,
}

/// What the status page shows of a module.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ModuleStatus {
    /// SHA-256 of what is served.
    pub sha256: String,
    /// Size of what is served.
    pub bytes: usize,
    /// Why what is on disk is not served. `null` when it is.
    pub error: Option<String>,
}

/// Modules in memory. Clones share their content.
#[derive(Debug, Clone)]
pub struct ModuleStore {
    folder: PathBuf,
    kept: Arc<Mutex<BTreeMap<&'static str, Kept>>>,
}

#[derive(Debug)]
struct Kept {
    /// Newest first, never empty.
    generations: Vec<Module>,
    error: Option<String>,
}

#[derive(Debug, Clone)]
struct Module {
    sha256: String,
    bytes: Bytes,
}

impl ModuleStore {
    /// Reads `NAME.wasm` of each name from `folder`. Blocks.
    ///
    /// # Errors
    /// When one of them can't be served.
    pub fn open(folder: &Path, names: &[&'static str]) -> Result<Self, ModuleError> {
        let mut kept = BTreeMap::new();
        for name in names {
            let module = Module::new(read(&path(folder, name))?);
            kept.insert(*name, Kept { generations: vec![module], error: None });
        }
        Ok(Self { folder: folder.to_owned(), kept: Arc::new(Mutex::new(kept)) })
    }

    /// What Envoys are to load now.
    pub fn current(&self) -> Current {
        let kept = lock(&self.kept);
        let sha256 = kept.iter().map(|(name, kept)| ((*name).to_owned(), kept.newest().sha256.clone()));
        Current { sha256: sha256.collect(), refresh: unix_seconds(SystemTime::now()) / REFRESH.as_secs() }
    }

    /// The bytes of a module, while they are kept.
    pub fn get(&self, name: &str, sha256: &str) -> Option<Bytes> {
        let kept = lock(&self.kept);
        let module = kept.get(name)?.generations.iter().find(|module| module.sha256 == sha256)?;
        Some(module.bytes.clone())
    }

    /// For the status page.
    pub fn status(&self) -> BTreeMap<&'static str, ModuleStatus> {
        let kept = lock(&self.kept);
        let status = |kept: &Kept| ModuleStatus {
            sha256: kept.newest().sha256.clone(),
            bytes: kept.newest().bytes.len(),
            error: kept.error.clone(),
        };
        kept.iter().map(|(name, kept)| (*name, status(kept))).collect()
    }

    /// Reads the files whenever they change, and then tells what is current, until it is dropped.
    pub async fn follow(self, mut watch: Watch, tell: impl Fn(Current)) {
        let paths: Vec<PathBuf> = lock(&self.kept).keys().map(|name| path(&self.folder, name)).collect();
        loop {
            // Links may lead elsewhere than before.
            watch.watch(&paths);
            watch.changed().await;
            let store = self.clone();
            if tokio::task::spawn_blocking(move || store.reload()).await.is_ok() {
                tell(self.current());
            }
        }
    }

    /// Reads all files again; what can't be served is reported, and changes nothing.
    fn reload(&self) {
        let names: Vec<&'static str> = lock(&self.kept).keys().copied().collect();
        for name in names {
            let found = read(&path(&self.folder, name));
            if let Some(kept) = lock(&self.kept).get_mut(name) {
                kept.take(name, found);
            }
        }
    }
}

impl Kept {
    fn newest(&self) -> &Module {
        &self.generations[0]
    }

    fn take(&mut self, name: &str, found: Result<Bytes, ModuleError>) {
        let error = found.as_ref().err().map(ToString::to_string);
        if let Some(error) = error.as_ref().filter(|error| self.error.as_ref() != Some(error)) {
            tracing::error!(module = name, problem = error, "filter refused; the last good one stays");
        }
        self.error = error;
        let Ok(bytes) = found else { return };
        if bytes == self.newest().bytes {
            return;
        }
        let module = Module::new(bytes);
        tracing::info!(module = name, sha256 = module.sha256, bytes = module.bytes.len(), "filter changed");
        // One that comes back is no generation of its own.
        self.generations.retain(|known| known.sha256 != module.sha256);
        self.generations.insert(0, module);
        self.generations.truncate(KEPT);
    }
}

impl Module {
    fn new(bytes: Bytes) -> Self {
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { sha256, bytes }
    }
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.wasm"))
}

fn read(path: &Path) -> Result<Bytes, ModuleError> {
    let io = |source| ModuleError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ModuleError::TooLarge { path: path.to_owned() });
    }
    let Some(mut sections) = bytes.strip_prefix(&PREAMBLE) else {
        return Err(ModuleError::NotWasm { path: path.to_owned() });
    };
    // A module without any section would be whole, and no filter.
    loop {
        sections = after_section(sections).ok_or_else(|| ModuleError::CutShort { path: path.to_owned() })?;
        if sections.is_empty() {
            return Ok(bytes.into());
        }
    }
}

/// What follows the first section: an id, a size in LEB128, and that many bytes (section 5.5.2).
fn after_section(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.get(1..)?;
    let mut size = 0u64;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        (size, rest) = (size | u64::from(byte & 0x7f) << shift, after);
        if byte & 0x80 == 0 {
            return rest.get(usize::try_from(size).ok()?..);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::watch::Settle;

    /// A whole module whose one custom section holds `text`.
    fn module(text: &str) -> Vec<u8> {
        let section = [&[4u8][..], b"test", text.as_bytes()].concat();
        [&PREAMBLE[..], &[0, section.len() as u8], &section].concat()
    }

    fn opened(text: &str) -> (tempfile::TempDir, ModuleStore) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("auth.wasm"), module(text)).unwrap();
        let store = ModuleStore::open(folder.path(), &["auth"]).unwrap();
        (folder, store)
    }

    fn sha256(store: &ModuleStore) -> String {
        store.current().sha256["auth"].clone()
    }

    #[test]
    fn a_module_is_known_by_the_sha256_of_its_bytes() {
        let (_folder, store) = opened("one");
        let sha256 = sha256(&store);
        assert_eq!(sha256.len(), 64);
        assert_eq!(store.get("auth", &sha256).unwrap(), module("one"));
        for (name, sha256) in [("rate_limit", &*sha256), ("auth", "0"), ("../auth", &sha256)] {
            assert!(store.get(name, sha256).is_none(), "{name} {sha256}");
        }
    }

    #[test]
    fn what_is_no_whole_module_is_refused_and_the_one_before_stays() {
        let (folder, store) = opened("one");
        let (path, before) = (folder.path().join("auth.wasm"), sha256(&store));
        let whole = module("two");
        let cut = (8..whole.len()).map(|end| whole[..end].to_vec());
        let others = [vec![], b"<html>".to_vec(), b"\0asm\x0d\0\x01\0\0\0".to_vec()];
        for bad in others.into_iter().chain(cut) {
            std::fs::write(&path, &bad).unwrap();
            store.reload();
            assert_eq!(sha256(&store), before, "{bad:?}");
            assert!(store.status()["auth"].error.as_ref().unwrap().contains("auth.wasm"), "{bad:?}");
        }
        std::fs::write(&path, &whole).unwrap();
        store.reload();
        assert_ne!(sha256(&store), before);
        assert!(store.status()["auth"].error.is_none());
    }

    #[test]
    fn modules_that_envoys_may_still_ask_for_are_kept_and_no_more() {
        let (folder, store) = opened("0");
        let mut all = vec![sha256(&store)];
        for number in 1..=KEPT {
            std::fs::write(folder.path().join("auth.wasm"), module(&number.to_string())).unwrap();
            store.reload();
            all.push(sha256(&store));
        }
        let kept: Vec<bool> = all.iter().map(|sha256| store.get("auth", sha256).is_some()).collect();
        assert_eq!(kept, [false, true, true, true, true]);
    }

    #[tokio::test]
    async fn a_file_that_is_renamed_over_is_told() {
        let (folder, store) = opened("one");
        let settle = Settle {
            quiet: Duration::from_millis(20),
            max: Duration::from_secs(1),
            poll: Duration::from_secs(3_600),
        };
        let before = sha256(&store);
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let follow = store.follow(Watch::new(settle).unwrap(), move |current| drop(sender.send(current)));
        let changed = async { while told.recv().await.unwrap().sha256["auth"] == before {} };
        let renamed = async {
            // The watch may not have begun yet.
            loop {
                std::fs::write(folder.path().join("new"), module("two")).unwrap();
                std::fs::rename(folder.path().join("new"), folder.path().join("auth.wasm")).unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::select! {
            told = tokio::time::timeout(Duration::from_secs(20), changed) => told.expect("told in time"),
            () = renamed => {}
            () = follow => {}
        }
    }
}
