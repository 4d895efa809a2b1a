//! A resource's time to live and its heartbeat (xDS protocol, "TTL"): a `Resource` with name, version and time to live and
//! no content, which tells a client that holds that version to keep it.
//!
//! Not here: when heartbeats are sent, which is the session's business.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::{Message, Name};

use envoy_types::pb::envoy::service::discovery::v3::Resource as Envelope;

use super::wire::{field_len, put_field, put_key};
use crate::proto_time;

/// What a resource with a time to live has beside its frames.
pub(super) struct Expiry {
    pub ttl: Duration,
    /// `Resource.ttl` (field 6), key and length included.
    pub field: Bytes,
    /// `DeltaDiscoveryResponse.resources` (field 2) without content.
    pub heartbeat: Bytes,
}

impl Expiry {
    pub fn new(name: &str, version: &str, ttl: Duration) -> Expiry {
        let duration = proto_time::duration(ttl).encode_to_vec();
        let mut field = BytesMut::with_capacity(field_len(6, duration.len()));
        put_field(6, &duration, &mut field);
        let inner = field_len(1, version.len()) + field_len(3, name.len()) + field.len();
        let mut heartbeat = BytesMut::with_capacity(field_len(2, inner));
        put_key(2, inner, &mut heartbeat);
        put_field(1, version.as_bytes(), &mut heartbeat);
        put_field(3, name.as_bytes(), &mut heartbeat);
        heartbeat.extend_from_slice(&field);
        Expiry { ttl, field: field.freeze(), heartbeat: heartbeat.freeze() }
    }
}

/// What stands before a delta frame of `len` bytes to make a state-of-the-world frame of it: `DiscoveryResponse.resources`
/// (field 2), an `Any` whose type is `Resource`. Its value (field 2) has the delta frame's own key.
pub(super) fn wrap(len: usize) -> Bytes {
    let url = Envelope::type_url();
    let mut before = BytesMut::new();
    put_key(2, field_len(1, url.len()) + len, &mut before);
    put_field(1, url.as_bytes(), &mut before);
    before.freeze()
}
