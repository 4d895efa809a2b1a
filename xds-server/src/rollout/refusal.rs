//! From a proxy's words to what they are about: which resources a NACK concerns, and where the YAML made them. Pure.
//!
//! A NACK refuses a whole response. Envoy names the culprits of clusters and listeners (`Error adding/updating
//! listener(s) public: cannot bind …`); of other types it often says what is wrong, and not of which resource. Then
//! everything that changed since the last good snapshot is suspect.

use std::collections::BTreeSet;

use super::hold::Unit;
use crate::gateway::source_map::mentions;
use crate::snapshot::{ResourceSet, TypeUrl};

/// A response that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `node.id`.
    pub node: String,
    /// What it was about.
    pub type_url: TypeUrl,
    /// Version of the type's set that was refused.
    pub version: String,
    /// The proxy's words.
    pub message: String,
}

impl Refusal {
    /// The units it concerns, of those that made `refused`, and whether the message names them. What is as in `good`
    /// was accepted before, so it is concerned only where it is named.
    pub fn units(&self, refused: &ResourceSet, good: &ResourceSet) -> (BTreeSet<Unit>, bool) {
        let changes = refused.changes_since(good);
        let changed = || changes.changed.iter().map(|resource| &**resource.name());
        let named = |name: &&str| mentions(&self.message, name);
        let mut names: Vec<&str> = changed().filter(named).collect();
        let mut are_named = !names.is_empty();
        if names.is_empty() {
            names = changed().collect();
        }
        if names.is_empty() {
            names = refused.iter().map(|resource| &**resource.name()).filter(named).collect();
            are_named = true;
        }
        (names.into_iter().filter_map(|name| Unit::of(&self.type_url, name)).collect(), are_named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Snapshot, SnapshotBuilder};

    fn snapshot(type_url: &TypeUrl, resources: &[(&str, &str)]) -> Snapshot {
        let mut builder: SnapshotBuilder = Snapshot::builder();
        for (name, body) in resources {
            builder.insert(type_url, name, body.as_bytes());
        }
        builder.build()
    }

    fn units(type_url: &TypeUrl, message: &str, new: &[(&str, &str)], good: &[(&str, &str)]) -> Vec<Unit> {
        let refusal = Refusal {
            node: "edge-1".into(),
            type_url: type_url.clone(),
            version: String::new(),
            message: message.into(),
        };
        let (new, good) = (snapshot(type_url, new), snapshot(type_url, good));
        refusal.units(new.set(type_url), good.set(type_url)).0.into_iter().collect()
    }

    fn cluster(name: &str) -> Unit {
        Unit::Cluster(name.parse().unwrap())
    }

    #[test]
    fn what_the_message_names_is_concerned() {
        let message = "Error adding/updating cluster(s) api: no such thing";
        let new = [("api", "2"), ("api-canary", "2"), ("other", "2")];
        assert_eq!(units(&TypeUrl::CLUSTER, message, &new, &[("api", "1")]), [cluster("api")]);
    }

    #[test]
    fn everything_changed_is_suspect_where_nothing_is_named() {
        let found = units(&TypeUrl::CLUSTER, "no", &[("a", "2"), ("b", "1"), ("c", "1")], &[("b", "1")]);
        assert_eq!(found, [cluster("a"), cluster("c")]);
    }

    #[test]
    fn what_was_good_is_concerned_only_by_name() {
        let good = [("a", "1"), ("b", "1")];
        assert_eq!(units(&TypeUrl::CLUSTER, "cluster b: no", &good, &good), [cluster("b")]);
        assert_eq!(units(&TypeUrl::CLUSTER, "no", &good, &good), []);
    }

    #[test]
    fn filters_are_a_matter_of_their_listeners_policies() {
        let found = units(&TypeUrl::EXTENSION, "no", &[("public/gateway", "2")], &[]);
        assert_eq!(found, [Unit::Policies("public".parse().unwrap())]);
    }
}
