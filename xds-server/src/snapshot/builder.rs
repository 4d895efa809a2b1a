//! Makes the next snapshot out of the one before.
//!
//! Two ways in: *replacing* starts empty and keeps what turns out to be equal, for a translator that names everything
//! each time; *editing* starts from what is there, for a caller that changes one resource. Both work on the set before,
//! so that what did not change keeps its `Arc`s, down to the resource, and the nodes of the map that hold them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use super::set::Content;
use super::{Resource, ResourceSet, Snapshot, TypeUrl, content_version};

/// Collects resources, then [`builds`](Self::build) a [`Snapshot`]. The last of two resources of one type and name wins.
#[derive(Debug)]
pub struct SnapshotBuilder {
    previous: Snapshot,
    keeps: bool,
    drafts: BTreeMap<TypeUrl, Draft>,
}

/// One type on its way.
#[derive(Debug, Default)]
struct Draft {
    content: Content,
    /// When replacing: what was inserted. All else in `content` is the set before, and goes in the end.
    kept: Option<HashSet<Arc<str>>>,
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

    /// Inserts an encoded message that proxies forget when they have heard nothing from here for `ttl`. The version is made
    /// of both.
    pub fn insert_expiring(
        &mut self,
        type_url: &TypeUrl,
        name: &str,
        ttl: Duration,
        body: &[u8],
    ) -> &mut Self {
        let version = format!("{}.{}ms", content_version(body), ttl.as_millis());
        let resource = match self.previous.get(type_url, name) {
            Some(known) if **known.version() == *version => known.clone(),
            _ => Arc::new(Resource::expiring(type_url, name, &version, ttl, body)),
        };
        self.insert_resource(type_url, resource)
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

    /// Inserts an [`Any`] of any type URL, known here or not, under its content's hash; see [`insert`](Self::insert).
    pub fn insert_any(&mut self, name: &str, any: &Any) -> &mut Self {
        self.insert(&TypeUrl::new(&any.type_url), name, &any.value)
    }

    /// Inserts an [`Any`] under a version of the caller's choice.
    pub fn insert_any_versioned(&mut self, name: &str, version: &str, any: &Any) -> &mut Self {
        self.insert_versioned(&TypeUrl::new(&any.type_url), name, version, &any.value)
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
        let draft = self.draft(type_url);
        if let Some(kept) = &mut draft.kept {
            kept.insert(resource.name().clone());
        }
        draft.content.insert(resource);
        self
    }

    /// Removes a resource; says whether it was there.
    pub fn remove(&mut self, type_url: &TypeUrl, name: &str) -> bool {
        let draft = self.draft(type_url);
        let was_kept = draft.kept.as_mut().is_none_or(|kept| kept.remove(name));
        draft.content.remove(name) && was_kept
    }

    /// Removes every resource of a type.
    pub fn clear(&mut self, type_url: &TypeUrl) -> &mut Self {
        self.drafts.insert(type_url.clone(), Draft::default());
        self
    }

    /// The finished snapshot. A type whose content is what it was keeps its set.
    pub fn build(self) -> Snapshot {
        let SnapshotBuilder { previous, keeps, mut drafts } = self;
        for type_url in previous.types.keys().filter(|_| !keeps) {
            drafts.entry(type_url.clone()).or_default();
        }
        let mut types = previous.types.clone();
        for (type_url, draft) in drafts {
            let set = ResourceSet::new(draft.finish());
            if !previous.set(&type_url).is_same(&set) {
                types.insert(type_url, Arc::new(set));
            }
        }
        Snapshot::from_types(types)
    }

    fn draft(&mut self, type_url: &TypeUrl) -> &mut Draft {
        self.drafts.entry(type_url.clone()).or_insert_with(|| {
            let before = self.previous.set(type_url).content();
            let kept = (!self.keeps && before.len() > 0).then(HashSet::new);
            Draft { content: before.clone(), kept }
        })
    }
}

impl Draft {
    fn finish(self) -> Content {
        let Draft { mut content, kept } = self;
        if let Some(kept) = kept.filter(|kept| kept.len() < content.len()) {
            let gone: Vec<_> = content.names().filter(|name| !kept.contains(*name)).cloned().collect();
            for name in gone {
                content.remove(&name);
            }
        }
        content
    }
}
