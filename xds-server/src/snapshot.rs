//! What a group of proxies is served: an immutable, versioned, already encoded set of xDS resources.
//!
//! A [`Snapshot`] holds one [`ResourceSet`] per [`TypeUrl`]. Every [`Resource`] is encoded once, when it is built,
//! and its bytes are shared by all clients; a [`SnapshotBuilder`] reuses the resources of the snapshot before, so that
//! an unchanged resource keeps its allocation and an unchanged type its `Arc`. What differs between two sets is
//! computed once ([`ResourceSet::changes_since`]) however many clients ask.
//!
//! Deliberately not here: who is connected and what they subscribe to (`discovery`), and how resources come about
//! (`translate`). Bodies are opaque: any type URL is served, known to Envoy or not. The exceptions are
//! [`Resource::eds_name`] and `hosts`, which say why.

mod builder;
mod heartbeat;
mod hosts;
mod resource;
mod selection;
mod set;
mod type_url;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use xxhash_rust::xxh3::xxh3_128;

pub use builder::SnapshotBuilder;
pub use hosts::host_resource;
pub use resource::{Resource, content_version};
pub use selection::{Names, Selection};
pub use set::{Changes, ResourceSet};
pub use type_url::TypeUrl;

static EMPTY: LazyLock<Arc<ResourceSet>> = LazyLock::new(|| Arc::new(ResourceSet::default()));

/// Every resource of one node group at one moment. Cheap to clone (one pointer a type).
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    version: Arc<str>,
    types: BTreeMap<TypeUrl, Arc<ResourceSet>>,
}

impl Snapshot {
    /// Starts a snapshot that owes nothing to another.
    pub fn builder() -> SnapshotBuilder {
        SnapshotBuilder::replacing(&Snapshot::default())
    }

    /// 32 hex digits over the version of every type that has resources: equal content, equal version, on any replica.
    /// Empty for a snapshot that was never built.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The resources of one type; the empty set when there are none.
    pub fn set(&self, type_url: &TypeUrl) -> &Arc<ResourceSet> {
        self.types.get(type_url).unwrap_or(&EMPTY)
    }

    /// One resource by type and name.
    pub fn get(&self, type_url: &TypeUrl, name: &str) -> Option<&Arc<Resource>> {
        self.set(type_url).get(name)
    }

    /// The types this snapshot knows, in the order they are sent ([`TypeUrl`]'s `Ord`). A type whose last resource was
    /// removed is still listed, with an empty set.
    pub fn types(&self) -> impl Iterator<Item = (&TypeUrl, &Arc<ResourceSet>)> {
        self.types.iter()
    }

    /// Number of resources of all types.
    pub fn len(&self) -> usize {
        self.types.values().map(|set| set.len()).sum()
    }

    /// Whether there is no resource at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is in `old` or `new`; where both have a name, `new`'s. The step between two snapshots that lets every
    /// proxy learn the new before any forgets the old (make before break).
    pub fn union(old: &Snapshot, new: &Snapshot) -> Snapshot {
        let mut builder = SnapshotBuilder::editing(new);
        for (type_url, set) in old.types() {
            let gone = &new.set(type_url).changes_since(set).removed;
            for resource in gone.iter().filter_map(|name| set.get(name)) {
                builder.insert_resource(type_url, resource.clone());
            }
        }
        builder.build()
    }

    /// What changed since `old`, one entry for each type that differs, in send order. Types that share their set
    /// cost a pointer comparison.
    pub fn changes_since(&self, old: &Snapshot) -> Vec<(TypeUrl, Arc<Changes>)> {
        let types = self.types.keys().chain(old.types.keys().filter(|t| !self.types.contains_key(*t)));
        let mut all: Vec<_> = types
            .map(|type_url| (type_url.clone(), self.set(type_url).changes_since(old.set(type_url))))
            .filter(|(_, changes)| !changes.is_empty())
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn from_types(types: BTreeMap<TypeUrl, Arc<ResourceSet>>) -> Snapshot {
        let sum = types.iter().filter(|(_, set)| !set.is_empty()).fold(0u128, |sum, (type_url, set)| {
            let text = format!("{type_url}\0{}", set.version());
            sum.wrapping_add(xxh3_128(text.as_bytes()))
        });
        Snapshot { version: format!("{sum:032x}").into(), types }
    }
}

#[cfg(test)]
mod tests;
