//! The last good state of etcd, kept on disk, so that a server that starts while etcd is away serves it, and so that it is
//! known which revision no proxy may be taken back behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{EtcdError, State};
use crate::source::file::{read_file, replace};

/// The file.
pub struct Kept {
    path: PathBuf,
    prefix: String,
    state: Option<Arc<State>>,
}

/// What stands in it.
#[derive(Serialize, Deserialize)]
struct Content<S> {
    prefix: String,
    state: S,
}

impl Kept {
    /// Reads what is there. What can't be read, or is of another prefix, was not kept. Blocks, for a small file.
    pub fn open(folder: &Path, prefix: &str) -> Self {
        let path = folder.join("etcd.json");
        let content = read_file(&path).ok().and_then(|file| {
            let content = serde_json::from_str::<Content<State>>(&file.text);
            content
                .inspect_err(
                    |error| tracing::warn!(file = %path.display(), %error, "can't read what was kept"),
                )
                .ok()
        });
        let state = content.filter(|content| content.prefix == prefix).map(|content| Arc::new(content.state));
        Self { path, prefix: prefix.to_owned(), state }
    }

    /// What was there at the start.
    pub fn state(&self) -> Option<&Arc<State>> {
        self.state.as_ref()
    }

    /// Keeps a state. Without it, the server works all the same: a failure is only told.
    pub fn put(&self, state: &State) {
        let text = serde_json::to_string(&Content { prefix: self.prefix.clone(), state });
        let written = text.map_err(std::io::Error::from).and_then(|text| replace(&self.path, &text));
        if let Err(error) = written {
            tracing::warn!(file = %self.path.display(), %error, "can't keep etcd's documents for the next start");
        }
    }

    /// etcd is behind what was seen of it.
    pub fn older(&self, found: i64, seen: i64) -> EtcdError {
        EtcdError::Older { found, seen, kept: self.path.display().to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::source::etcd::state::Document;

    #[test]
    fn what_was_kept_is_there_for_the_same_prefix_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let document = Document { modified: 6, value: "version: v1".into() };
        let state =
            State { cluster: u64::MAX, revision: 7, documents: [("/t/a".to_owned(), document)].into() };
        let kept = Kept::open(&folder, "/t/");
        assert_eq!(kept.state(), None);
        kept.put(&state);
        assert_eq!(Kept::open(&folder, "/t/").state().map(|state| (**state).clone()), Some(state));
        assert_eq!(Kept::open(&folder, "/other/").state(), None);
        let mode = std::fs::metadata(folder.join("etcd.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_read_was_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}", r#"{"prefix": "/t/", "state": {"cluster": -1}}"#] {
            std::fs::write(folder.path().join("etcd.json"), text).unwrap();
            assert_eq!(Kept::open(folder.path(), "/t/").state(), None, "{text}");
        }
    }
}
