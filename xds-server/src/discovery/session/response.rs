//! A response as it leaves: a few bytes of its own, then resources whose bytes all clients share.
//!
//! The header is a valid prefix of the message (`DiscoveryResponse` or `DeltaDiscoveryResponse`), each resource frame a
//! valid continuation of it, so that a response of a hundred thousand resources is neither encoded nor collected: it is
//! copied out piece by piece ([`Response::fill`]) as fast as its client reads.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Flavour;
use crate::snapshot::wire::{field_len, put_field, put_key};
use crate::snapshot::{Changes, Resource, ResourceSet, TypeUrl};

/// One discovery response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The type it is about.
    pub type_url: TypeUrl,
    /// `version_info` or `system_version_info`: the version of the type's set.
    pub version: Arc<str>,
    /// What its ACK or NACK will carry.
    pub nonce: Arc<str>,
    /// Its resources.
    pub payload: Payload,
    /// Names it says are gone (delta only).
    pub removed: Vec<Arc<str>>,
    /// Names it answers without a resource (delta only): hosts that no virtual host of that name is for.
    pub told: Vec<Arc<str>>,
    /// Whether it says of its resources only that they are to be kept (xDS protocol, "TTL"): no push.
    pub heartbeat: bool,
    pub(super) flavour: Flavour,
    /// State of the world: what the client subscribes to is the whole set. Only then is the version on the wire the
    /// set's, so that nobody resumes a wildcard by a version of which it had a part.
    pub(super) whole: bool,
}

/// The resources of a response, in the cheapest form that names them.
#[derive(Debug, Clone)]
pub enum Payload {
    /// A whole set: the first answer to a wildcard.
    All(Arc<ResourceSet>),
    /// What changed, as every client of the wildcard gets it.
    Changed(Arc<Changes>),
    /// A list, in name order.
    Listed(Arc<[Arc<Resource>]>),
}

/// How far a response was copied out.
#[derive(Debug, Default)]
pub struct Cursor {
    index: usize,
    last: Option<Arc<str>>,
}

impl Response {
    /// Bytes of the whole message.
    pub fn encoded_len(&self) -> usize {
        self.header().len() + self.payload_len()
    }

    /// Bytes of the message but for its header.
    pub fn payload_len(&self) -> usize {
        match self.heartbeat && self.flavour == Flavour::Delta {
            true => self.payload.iter().map(|resource| self.frame(resource).len()).sum(),
            false => self.payload.encoded_len(self.flavour),
        }
    }

    /// The message's scalar fields and removed names, encoded.
    pub fn header(&self) -> Bytes {
        let mut buf =
            BytesMut::with_capacity(160 + self.removed.iter().map(|name| name.len() + 8).sum::<usize>());
        put_field(1, wire_version(self.flavour, self.whole, &self.version).as_bytes(), &mut buf);
        put_field(4, self.type_url.as_str().as_bytes(), &mut buf);
        put_field(5, self.nonce.as_bytes(), &mut buf);
        for name in &self.removed {
            put_field(6, name.as_bytes(), &mut buf);
        }
        for name in &self.told {
            // `Resource` with `name` and `aliases` alone: whoever waits for that name goes on without it.
            put_key(2, field_len(3, name.len()) + field_len(4, name.len()), &mut buf);
            put_field(3, name.as_bytes(), &mut buf);
            put_field(4, name.as_bytes(), &mut buf);
        }
        buf.freeze()
    }

    /// Appends frames as long as `buf` holds `at_most` bytes with them; `false` once there are no more. A resource larger
    /// than that goes with what is before it.
    pub fn fill(&self, cursor: &mut Cursor, buf: &mut BytesMut, at_most: usize) -> bool {
        match &self.payload {
            Payload::All(set) => {
                let last = cursor.last.take();
                let mut copied = last.as_ref();
                for resource in set.iter_after(last.as_ref()) {
                    if !self.append(resource, buf, at_most) {
                        cursor.last = copied.cloned();
                        return true;
                    }
                    copied = Some(resource.name());
                }
                false
            }
            Payload::Changed(changes) => self.fill_from(&changes.changed, cursor, buf, at_most),
            Payload::Listed(list) => self.fill_from(list, cursor, buf, at_most),
        }
    }

    /// The whole message at once, for tests and tools.
    pub fn encode(&self) -> Bytes {
        let mut buf = BytesMut::from(self.header());
        self.fill(&mut Cursor::default(), &mut buf, usize::MAX);
        buf.freeze()
    }

    fn fill_from(
        &self,
        list: &[Arc<Resource>],
        cursor: &mut Cursor,
        buf: &mut BytesMut,
        at_most: usize,
    ) -> bool {
        for resource in &list[cursor.index.min(list.len())..] {
            if !self.append(resource, buf, at_most) {
                return true;
            }
            cursor.index += 1;
        }
        false
    }

    fn append(&self, resource: &Resource, buf: &mut BytesMut, at_most: usize) -> bool {
        let frame = self.frame(resource);
        let fits = buf.is_empty() || frame.len() > at_most || buf.len() + frame.len() <= at_most;
        if fits {
            buf.extend_from_slice(frame);
        }
        fits
    }
}

impl Response {
    fn frame<'a>(&self, resource: &'a Resource) -> &'a [u8] {
        match (self.flavour, self.heartbeat) {
            (Flavour::Delta, false) => resource.delta_frame(),
            (Flavour::Delta, true) => resource.delta_heartbeat(),
            (Flavour::StateOfTheWorld, _) => resource.sotw_frame(),
        }
    }
}

/// The version of a set as clients see it; `whole` as in [`Response`].
pub(super) fn wire_version(flavour: Flavour, whole: bool, version: &str) -> Cow<'_, str> {
    match whole || flavour == Flavour::Delta {
        true => version.into(),
        false => format!("{version}.part").into(),
    }
}

impl Payload {
    /// The resource of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        let find =
            |list: &[Arc<Resource>]| list.binary_search_by(|resource| (**resource.name()).cmp(name)).ok();
        match self {
            Payload::All(set) => set.get(name),
            Payload::Changed(changes) => find(&changes.changed).map(|at| &changes.changed[at]),
            Payload::Listed(list) => find(list).map(|at| &list[at]),
        }
    }

    /// The resources, in name order.
    pub fn iter(&self) -> Box<dyn Iterator<Item = &Arc<Resource>> + '_> {
        match self {
            Payload::All(set) => Box::new(set.iter()),
            Payload::Changed(changes) => Box::new(changes.changed.iter()),
            Payload::Listed(list) => Box::new(list.iter()),
        }
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        match self {
            Payload::All(set) => set.len(),
            Payload::Changed(changes) => changes.changed.len(),
            Payload::Listed(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn encoded_len(&self, flavour: Flavour) -> usize {
        match (self, flavour) {
            (Payload::All(set), Flavour::Delta) => set.delta_len(),
            (Payload::All(set), Flavour::StateOfTheWorld) => set.sotw_len(),
            (listed, Flavour::Delta) => listed.iter().map(|resource| resource.delta_len()).sum(),
            (listed, Flavour::StateOfTheWorld) => listed.iter().map(|resource| resource.sotw_len()).sum(),
        }
    }
}
