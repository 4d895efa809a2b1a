//! Keys and certificates, by where the YAML says they come from. Others read files and fetch URLs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::gateway::ReferencedFiles;
use crate::gateway::model::Jwks;

/// Keys and certificates that are not in the YAML itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeySets {
    /// What stands in files.
    pub files: ReferencedFiles,
    /// Issuers' keys, by `url`. One that was never fetched is missing.
    pub urls: BTreeMap<String, Arc<Value>>,
}

impl KeySets {
    /// The key set that `jwks` names, where it is known.
    pub(super) fn get(&self, jwks: &Jwks) -> Option<Value> {
        let file = || jwks.file.as_ref().and_then(|file| self.files.jwks.get(file));
        let url = || jwks.url.as_ref().and_then(|url| self.urls.get(url));
        jwks.inline.clone().or_else(|| file().or_else(url).map(|set| Value::clone(set)))
    }
}
