//! What etcd holds under the prefix at one revision. Immutable: a transaction makes another one of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::wire::{DELETE, Event, KeyValue};
use crate::gateway::SourceFile;
use crate::source::file::{MAX_FILES, ReadError, text_of};

/// All documents as of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which etcd, by the number it gave itself.
    pub cluster: u64,
    /// Of the transaction that made it so, or any later one that changed nothing under the prefix.
    pub revision: i64,
    /// By key.
    pub documents: BTreeMap<String, Document>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Revision of the transaction that wrote it.
    pub modified: i64,
    /// What was written.
    #[serde(with = "as_text")]
    pub value: Bytes,
}

impl State {
    /// What an answer says.
    pub(super) fn of(cluster: u64, revision: i64, kvs: Vec<KeyValue>) -> Self {
        let documents = kvs
            .into_iter()
            .map(|kv| (name(&kv.key), Document { modified: kv.mod_revision, value: kv.value }));
        Self { cluster, revision, documents: documents.collect() }
    }

    /// What the events of one transaction make of it.
    pub(super) fn then(&self, revision: i64, events: &[Event]) -> Self {
        let mut next = Self { revision, ..self.clone() };
        for event in events {
            let Some(kv) = &event.kv else { continue };
            let key = name(&kv.key);
            if event.r#type == DELETE {
                next.documents.remove(&key);
            } else {
                next.documents.insert(key, Document { modified: kv.mod_revision, value: kv.value.clone() });
            }
        }
        next
    }

    /// Revision of the latest document: of the latest transaction, unless that only deleted.
    pub fn written(&self) -> i64 {
        self.documents.values().map(|document| document.modified).max().unwrap_or(0)
    }

    /// Whether the same etcd holds the same keys, written at the same revisions. Values are not looked at.
    pub(super) fn was_written_like(&self, other: &Self) -> bool {
        let written = |state: &Self| -> Vec<(String, i64)> {
            state.documents.iter().map(|(key, document)| (key.clone(), document.modified)).collect()
        };
        self.cluster == other.cluster && written(self) == written(other)
    }

    /// As files of a folder, in the order of their keys.
    ///
    /// # Errors
    /// When there is none, too many, or one that is too large or no text.
    pub fn files(&self) -> Result<Vec<SourceFile>, ReadError> {
        if self.documents.is_empty() {
            return Err(ReadError::NoKeys);
        }
        if self.documents.len() > MAX_FILES {
            return Err(ReadError::TooMany { path: path("") });
        }
        self.documents
            .iter()
            .map(|(key, document)| {
                let path = path(key);
                Ok(SourceFile { text: text_of(&path, document.value.to_vec())?, path })
            })
            .collect()
    }
}

/// How reports name a key, so that nobody takes it for a file.
pub fn path(key: &str) -> PathBuf {
    PathBuf::from(format!("etcd:{key}"))
}

fn name(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Only what could be served is kept, and that is text.
mod as_text {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        String::deserialize(deserializer).map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str, revision: i64) -> Event {
        let kv = KeyValue { key: key.into(), value: value.into(), mod_revision: revision };
        Event { r#type: 0, kv: Some(kv) }
    }

    fn texts(state: &State) -> Vec<(String, String)> {
        let files = state.files().unwrap().into_iter();
        files.map(|file| (file.path.display().to_string(), file.text)).collect()
    }

    #[test]
    fn a_transaction_puts_and_deletes_at_once() {
        let first = State::of(1, 4, Vec::new()).then(5, &[put("/t/b", "b", 5), put("/t/a", "a", 5)]);
        let delete = Event { r#type: DELETE, ..put("/t/a", "", 6) };
        let second = first.then(6, &[delete, put("/t/b", "B", 6)]);
        assert_eq!(texts(&first), [("etcd:/t/a".into(), "a".into()), ("etcd:/t/b".into(), "b".into())]);
        assert_eq!(texts(&second), [("etcd:/t/b".into(), "B".into())]);
        assert_eq!((second.revision, second.written()), (6, 6));
    }

    #[test]
    fn what_is_no_text_is_named_by_its_key() {
        let state = State::of(1, 1, Vec::new());
        assert!(matches!(state.files(), Err(ReadError::NoKeys)));
        let kv = KeyValue { key: "/t/x".into(), value: Bytes::from_static(&[0xff]), mod_revision: 2 };
        let error = state.then(2, &[Event { r#type: 0, kv: Some(kv) }]).files().unwrap_err();
        assert_eq!(error.to_string(), "etcd:/t/x is not UTF-8 text");
    }
}
