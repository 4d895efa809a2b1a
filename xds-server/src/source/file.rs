//! A YAML file, or all of a folder.

use std::io::Read;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::gateway::SourceFile;

/// Bytes in one file at most: far above any gateway written by people, far below what hurts.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// Files in one folder at most.
pub(super) const MAX_FILES: usize = 10_000;

/// Why desired state can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file or folder, or one in it, can't be opened or read.
    #[error("can't read {path}: {source}")]
    Io {
        /// What was read.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is larger than any gateway.
    #[error("{path} has more than {MAX_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file is no text.
    #[error("{path} is not UTF-8 text")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A folder with more files than any gateway.
    #[error("there are more than {MAX_FILES} YAML files in {path}")]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// A folder without any YAML file.
    #[error("there is no .yaml or .yml file in {path}")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// An etcd without any document.
    #[error("there is no key under the prefix in etcd; `xds-server push` writes some")]
    NoKeys,
    /// The server is going down, or found a mistake of its own.
    #[error("reading the configuration was given up")]
    GaveUp,
}

/// A file, or a folder whose `.yaml` and `.yml` files count, in the order of their names. Hidden files (as
/// editors and Kubernetes leave them) are passed over.
#[derive(Debug, Clone)]
pub struct FileSource {
    path: PathBuf,
}

impl FileSource {
    /// Reads from `path`, when asked.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that relative paths in the YAML start from.
    pub fn base_dir(&self) -> &Path {
        match self.path.parent() {
            _ if self.path.is_dir() => &self.path,
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// Reads everything now. Blocks.
    ///
    /// # Errors
    /// When anything can't be read, is too large or is no text: half a configuration is none.
    pub fn read(&self) -> Result<Vec<SourceFile>, ReadError> {
        let io = |source| ReadError::Io { path: self.path.clone(), source };
        if !std::fs::metadata(&self.path).map_err(io)?.is_dir() {
            return Ok(vec![read_file(&self.path)?]);
        }
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            if yaml && !hidden && path.is_file() {
                paths.push(path);
            }
        }
        if paths.len() > MAX_FILES {
            return Err(ReadError::TooMany { path: self.path.clone() });
        }
        if paths.is_empty() {
            return Err(ReadError::Empty { path: self.path.clone() });
        }
        paths.sort();
        paths.iter().map(|path| read_file(path)).collect()
    }
}

/// Reads one text, bounded.
pub(super) fn read_file(path: &Path) -> Result<SourceFile, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(SourceFile { path: path.to_owned(), text: text_of(path, bytes)? })
}

/// What was read from `path`, as text.
pub(super) fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, ReadError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    let text = String::from_utf8(bytes).map_err(|_| ReadError::NotText { path: path.to_owned() })?;
    // Some editors mark UTF-8; YAML would take the mark for a document.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Replaces a file in one step, for its owner's eyes only: a crash leaves the old one.
pub(super) fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    let options = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let mut file = options?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    std::fs::rename(new, path)
}

/// The version of a configuration: 16 hexadecimal digits of a hash of its texts. Equal texts give equal
/// versions on every replica, wherever the files are.
pub fn version(files: &[SourceFile]) -> String {
    let mut hash = Xxh3::new();
    for file in files {
        hash.update(&(file.text.len() as u64).to_le_bytes());
        hash.update(file.text.as_bytes());
    }
    format!("{:016x}", hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_visible_yaml_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", ".hidden.yaml", "c.txt", "d.yaml~"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = FileSource::new(folder.path()).read().unwrap();
        let texts: Vec<_> = files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["a.yml", "b.yaml"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| FileSource::new(path).read().unwrap_err().to_string();
        assert!(error(folder.path()).starts_with("there is no .yaml or .yml file in "));
        let path = folder.path().join("x.yaml");
        assert!(error(&path).contains("x.yaml: No such file"));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(error(&path).ends_with("x.yaml is not UTF-8 text"));
    }

    #[test]
    fn the_version_is_of_the_content() {
        let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.into() };
        let one = version(&[file("a", "x"), file("b", "y")]);
        assert_eq!(one, version(&[file("other", "x"), file("place", "y")]));
        assert_ne!(one, version(&[file("a", "xy"), file("b", "")]));
    }
}
