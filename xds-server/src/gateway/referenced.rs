//! What stands in the files that the YAML names. Reading them is the work of `source`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::model::{Certificate, TrustedCa};
use super::pem::{CaBundle, KeyPair};

/// Contents of files, by what the YAML writes to name them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReferencedFiles {
    /// Of `jwks: {file: …}`.
    pub jwks: BTreeMap<String, Arc<Value>>,
    /// Of `certificates`.
    pub key_pairs: BTreeMap<Certificate, Arc<KeyPair>>,
    /// Of `trusted_cas`.
    pub ca_bundles: BTreeMap<TrustedCa, Arc<CaBundle>>,
}

impl ReferencedFiles {
    /// Everything that stands in any of `all`; where one file has two contents, the later.
    pub fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter()
            .cloned()
            .reduce(|mut merged, later| {
                merged.jwks.extend(later.jwks);
                merged.key_pairs.extend(later.key_pairs);
                merged.ca_bundles.extend(later.ca_bundles);
                merged
            })
            .unwrap_or_default()
    }
}
