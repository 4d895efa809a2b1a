//! The last good key sets of issuers, kept on disk, so that a restart while an issuer is down takes no working key
//! away from any Envoy.

use std::path::PathBuf;

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::file::{read_file, replace};

/// A folder with a file for each URL.
#[derive(Debug, Clone)]
pub struct KeyStore {
    folder: PathBuf,
}

impl KeyStore {
    /// Keeps files in `folder`, which is made when there is something to keep.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// What was kept for the URL. What can't be read was not kept.
    pub fn get(&self, url: &str) -> Option<Value> {
        let file = read_file(&self.path(url)).ok()?;
        let mut kept: Value = serde_json::from_str(&file.text).ok()?;
        // Two URLs with one hash must not share keys.
        (kept["url"] == url && kept["jwks"]["keys"].is_array()).then(|| kept["jwks"].take())
    }

    /// Keeps a key set. Without it, the server works all the same: a failure is only told.
    pub fn put(&self, url: &str, set: &Value) {
        let path = self.path(url);
        // A key set may hold symmetric keys.
        if let Err(error) = replace(&path, &json!({"url": url, "jwks": set}).to_string()) {
            tracing::warn!(file = %path.display(), %error, "can't keep an issuer's keys for the next start");
        }
    }

    fn path(&self, url: &str) -> PathBuf {
        self.folder.join(format!("jwks-{:016x}.json", xxh3_64(url.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_got_by_its_url_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = KeyStore::new(folder.path().join("state"));
        assert_eq!(store.get("http://a"), None);
        store.put("http://a", &json!({"keys": [1]}));
        store.put("http://a", &json!({"keys": [2]}));
        assert_eq!(store.get("http://a"), Some(json!({"keys": [2]})));
        assert_eq!(store.get("http://b"), None);
    }

    #[test]
    fn what_cannot_be_read_was_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = KeyStore::new(folder.path());
        for text in [
            "",
            "{",
            "[]",
            r#"{"url": "http://a", "jwks": 1}"#,
            r#"{"url": "http://b", "jwks": {"keys": []}}"#,
        ] {
            std::fs::write(store.path("http://a"), text).unwrap();
            assert_eq!(store.get("http://a"), None, "{text}");
        }
    }
}
