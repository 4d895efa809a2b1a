//! One resource, encoded once for both flavours of the protocol.
//!
//! A delta response holds `Resource { version = 1, resource = 2 (an Any), name = 3 }` in its field 2, a
//! state-of-the-world response holds the `Any` in its own field 2. Written with the `Any` last, the second is a tail
//! of the first, and the body a tail of both: one buffer serves delta, state of the world, and whoever wants the body.
//!
//! One with a time to live goes into state of the world as such a `Resource` inside another `Any`, which is the delta
//! frame with a few bytes before it. It has a second, short frame: its heartbeat (`heartbeat`).

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::TypeUrl;
use super::heartbeat::{self, Expiry};
use super::wire::{field_len, put_field, put_key};

/// A named, versioned, encoded resource. Its bytes are immutable and shared.
pub struct Resource {
    name: Arc<str>,
    version: Arc<str>,
    frame: Bytes,
    delta_at: usize,
    sotw_at: usize,
    body_at: usize,
    made: SystemTime,
    eds_name: OnceLock<Option<Arc<str>>>,
    expiry: Option<Expiry>,
}

/// The version of a resource nobody versioned: 32 hex digits of XXH3-128 over its encoded body, in bytes.
pub fn content_version(body: &[u8]) -> String {
    format!("{:032x}", xxh3_128(body))
}

impl Resource {
    /// Encodes the envelope around `body`, the encoded message that goes into `Any.value`.
    pub fn new(type_url: &TypeUrl, name: &str, version: &str, body: &[u8]) -> Resource {
        Resource::with_expiry(type_url, name, version, None, body)
    }

    /// One that its clients forget when they have heard nothing of it for `ttl`.
    pub fn expiring(type_url: &TypeUrl, name: &str, version: &str, ttl: Duration, body: &[u8]) -> Resource {
        Resource::with_expiry(type_url, name, version, Some(Expiry::new(name, version, ttl)), body)
    }

    fn with_expiry(
        type_url: &TypeUrl,
        name: &str,
        version: &str,
        expiry: Option<Expiry>,
        body: &[u8],
    ) -> Resource {
        let url = type_url.as_str().as_bytes();
        let any = field_len(1, url.len()) + field_len(2, body.len());
        let ttl = expiry.as_ref().map_or(0, |expiry| expiry.field.len());
        let inner = field_len(1, version.len()) + field_len(3, name.len()) + ttl + field_len(2, any);
        let delta = field_len(2, inner);
        let before = expiry.as_ref().map_or_else(Bytes::new, |_| heartbeat::wrap(delta));
        let total = before.len() + delta;

        let mut frame = BytesMut::with_capacity(total);
        frame.extend_from_slice(&before);
        put_key(2, inner, &mut frame);
        put_field(1, version.as_bytes(), &mut frame);
        put_field(3, name.as_bytes(), &mut frame);
        if let Some(expiry) = &expiry {
            frame.extend_from_slice(&expiry.field);
        }
        let any_at = frame.len();
        put_key(2, any, &mut frame);
        put_field(1, url, &mut frame);
        put_field(2, body, &mut frame);
        let body_at = total - body.len();
        Resource {
            name: name.into(),
            version: version.into(),
            frame: frame.freeze(),
            delta_at: before.len(),
            sotw_at: if expiry.is_some() { 0 } else { any_at },
            body_at,
            made: SystemTime::now(),
            eds_name: OnceLock::new(),
            expiry,
        }
    }

    /// Unique within its type.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Identity of the content: two resources of one name and version are taken to be the same.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// When it was made, on this server; one that did not change is kept, and so is this. No part of its identity.
    pub fn made(&self) -> SystemTime {
        self.made
    }

    /// The encoded message inside the `Any`. May hold secrets: never log it.
    pub fn body(&self) -> Bytes {
        self.frame.slice(self.body_at..)
    }

    /// `DeltaDiscoveryResponse.resources` (field 2), key and length included.
    pub fn delta_frame(&self) -> &[u8] {
        &self.frame[self.delta_at..]
    }

    /// `DiscoveryResponse.resources` (field 2), key and length included.
    pub fn sotw_frame(&self) -> &[u8] {
        &self.frame[self.sotw_at..]
    }

    /// Bytes of [`Self::delta_frame`].
    pub fn delta_len(&self) -> usize {
        self.frame.len() - self.delta_at
    }

    /// Bytes of [`Self::sotw_frame`].
    pub fn sotw_len(&self) -> usize {
        self.frame.len() - self.sotw_at
    }

    /// How long a client keeps it without hearing of it again; for ever where there is none.
    pub fn ttl(&self) -> Option<Duration> {
        self.expiry.as_ref().map(|expiry| expiry.ttl)
    }

    /// As [`Self::delta_frame`], without the content: the client that holds this version is to keep it. Empty without a
    /// time to live.
    pub fn delta_heartbeat(&self) -> &[u8] {
        self.expiry.as_ref().map_or(&[], |expiry| &expiry.heartbeat)
    }

    /// For a cluster discovered by EDS: the name under which Envoy subscribes to its endpoints. A changed cluster
    /// warms anew and waits for its endpoints to be sent again, even when those did not change (xDS protocol,
    /// "Resource warming"), so the session has to know which they are. `None` for what does not parse as such.
    pub fn eds_name(&self) -> Option<&Arc<str>> {
        self.eds_name
            .get_or_init(|| {
                let cluster = ClusterHead::decode(&self.frame[self.body_at..]).ok()?;
                if cluster.discovery != EDS {
                    return None;
                }
                let service = cluster.eds.map_or_else(String::new, |eds| eds.service_name);
                Some(if service.is_empty() { self.name.clone() } else { service.into() })
            })
            .as_ref()
    }
}

/// By name and version, as [`Resource::version`] promises.
impl PartialEq for Resource {
    fn eq(&self, other: &Resource) -> bool {
        self.name == other.name && self.version == other.version
    }
}

impl Eq for Resource {}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the body: it may hold secrets.
        f.debug_struct("Resource")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// `Cluster.DiscoveryType.EDS`.
const EDS: i32 = 3;

/// The fields of `envoy.config.cluster.v3.Cluster` that decide [`Resource::eds_name`]; the others are skipped.
#[derive(Clone, PartialEq, Message)]
struct ClusterHead {
    #[prost(int32, tag = "2")]
    discovery: i32,
    #[prost(message, optional, tag = "3")]
    eds: Option<EdsHead>,
}

#[derive(Clone, PartialEq, Message)]
struct EdsHead {
    #[prost(string, tag = "2")]
    service_name: String,
}
