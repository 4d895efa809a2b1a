//! What one peer may take: every bound of the discovery service in one place, each with its unit.

use std::time::Duration;

use super::session::SessionLimits;

/// Bounds on connections, streams, requests and memory.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request in bytes. A reconnecting delta client echoes the name and version of all it holds: some 80 bytes
    /// a resource, so 64 MiB is several hundred thousand.
    pub request_bytes: usize,
    /// Streams open at a time, all peers together; more are refused with RESOURCE_EXHAUSTED.
    pub streams: usize,
    /// Streams open at a time on one connection (HTTP/2 MAX_CONCURRENT_STREAMS); more wait in the peer.
    pub streams_per_connection: u32,
    /// Requests read a second on one stream; more wait unread, and so does their sender.
    pub requests_per_second: u32,
    /// Requests that may come at once before that rate holds.
    pub request_burst: u32,
    /// Until a new stream must have named its node.
    pub first_request: Duration,
    /// Node ids and groups longer than this are refused, in bytes.
    pub node_id_bytes: usize,
    /// What a client may make its session remember.
    pub session: SessionLimits,
    /// How often a silent connection is asked for a sign of life; half-open ones are found that way.
    pub keepalive_interval: Duration,
    /// How long that sign may take.
    pub keepalive_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_bytes: 64 << 20,
            streams: 20_000,
            streams_per_connection: 100,
            requests_per_second: 1_000,
            request_burst: 2_000,
            first_request: Duration::from_secs(15),
            node_id_bytes: 1024,
            session: SessionLimits::default(),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}
