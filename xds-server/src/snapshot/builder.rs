//! Makes the next snapshot out of the one before.
//!
//! Two ways in: *replacing* starts empty and keeps what turns out to be equal, for a translator that names everything
//! each time; *editing* starts from what is there, for a caller that changes one resource. Both give back the same
//! `Arc`s for what did not change, down to the resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::{Message, Name};

use super::set::Content;
use super::{Resource, ResourceSet, Snapshot, TypeUrl, content_version};

/// Collects resources, then [`builds`](Self::build) a [`Snapshot`]. The last of two resources of one type and name wins.
#[derive(Debug)]
pub struct SnapshotBuilder {
    previous: Snapshot,
    keeps: bool,
    drafts: BTreeMap<TypeUrl, Content>,
}

impl SnapshotBuilder {
    /// Starts empty: what is not inserted is gone. Equal resources of `previous` are reused.
    pub fn replacing(previous: &Snapshot) -> SnapshotBuilder {
        SnapshotBuilder { previous: previous.clone(), keeps: false, drafts: BTreeMap::new() }
    }

    /// Starts with everything `previous` has.
    pub fn editing(previous: &Snapshot) -> SnapshotBuilder {
        SnapshotBuilder { previous: previous.clone(), keeps: true, drafts: BTreeMap::new() }
    }

    /// Inserts an encoded message under its content's hash. Encodings must be deterministic (a protobuf map is not);
    /// where they are not, use [`insert_with`](Self::insert_with) and a version taken from the source.
    pub fn insert(&mut self, type_url: &TypeUrl, name: &str, body: &[u8]) -> &mut Self {
        self.insert_versioned(type_url, name, &content_version(body), body)
    }

    /// Inserts an encoded message under a version of the caller's choice.
    pub fn insert_versioned(
        &mut self,
        type_url: &TypeUrl,
        name: &str,
        version: &str,
        body: &[u8],
    ) -> &mut Self {
        self.insert_with(type_url, name, version, || body.to_vec())
    }

    /// Inserts a resource whose version is known before it is encoded; `encode` is called only if the previous
    /// snapshot has no resource of that name and version, whose bytes are kept otherwise.
    pub fn insert_with(
        &mut self,
        type_url: &TypeUrl,
        name: &str,
        version: &str,
        encode: impl FnOnce() -> Vec<u8>,
    ) -> &mut Self {
        let resource = match self.previous.get(type_url, name) {
            Some(known) if &**known.version() == version => known.clone(),
            _ => Arc::new(Resource::new(type_url, name, version, &encode())),
        };
        self.insert_resource(type_url, resource)
    }

    /// Inserts a prost message under its own type URL and its encoding's hash; see [`insert`](Self::insert) for what
    /// that asks of the message.
    pub fn insert_message<M: Message + Name>(&mut self, name: &str, message: &M) -> &mut Self {
        self.insert(&TypeUrl::new(&M::type_url()), name, &message.encode_to_vec())
    }

    /// Inserts a resource another snapshot already holds. `type_url` must be the one it was made with.
    pub fn insert_resource(&mut self, type_url: &TypeUrl, resource: Arc<Resource>) -> &mut Self {
        self.draft(type_url).insert(resource);
        self
    }

    /// Removes a resource; says whether it was there.
    pub fn remove(&mut self, type_url: &TypeUrl, name: &str) -> bool {
        self.draft(type_url).remove(name)
    }

    /// The finished snapshot. A type whose content is what it was keeps its set.
    pub fn build(self) -> Snapshot {
        let SnapshotBuilder { previous, keeps, mut drafts } = self;
        let mut types = previous.types.clone();
        if !keeps {
            for type_url in previous.types.keys() {
                drafts.entry(type_url.clone()).or_default();
            }
        }
        for (type_url, content) in drafts {
            let set = ResourceSet::new(content);
            if !previous.set(&type_url).is_same(&set) {
                types.insert(type_url, Arc::new(set));
            }
        }
        Snapshot::from_types(types)
    }

    fn draft(&mut self, type_url: &TypeUrl) -> &mut Content {
        self.drafts.entry(type_url.clone()).or_insert_with(|| match self.keeps {
            true => self.previous.set(type_url).content().clone(),
            false => Content::default(),
        })
    }
}
