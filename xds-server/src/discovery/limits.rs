//! What one peer may take: every bound of the discovery service in one place, each with its unit.

use std::time::Duration;

use super::session::SessionLimits;

/// Bounds on connections, streams, requests and memory.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request in bytes. A reconnecting delta client echoes the name and version of all it holds: some 80 bytes
    /// a resource, so 64 MiB is several hundred thousand.
    pub request_bytes: usize,
    /// Connections open at a time, all peers together; more are closed at once.
    pub connections: usize,
    /// Connections open at a time from one address, or one IPv6 /64; more are closed at once.
    pub connections_per_address: usize,
    /// New connections a second from one address; more are closed at once.
    pub connections_per_second_per_address: u32,
    /// Connections that may come at once from one address before that rate holds.
    pub connection_burst_per_address: u32,
    /// Connections that have not sent a request yet, their TLS handshake included; more are closed at once. One address
    /// may have half of them.
    pub silent_connections: usize,
    /// Until a TLS handshake must be done.
    pub handshake: Duration,
    /// Age at which a connection is ended, give or take a tenth: its proxy connects anew, to another replica perhaps.
    /// `None`: never.
    pub max_connection_age: Option<Duration>,
    /// Time over which connections are ended that are to be ended all at once.
    pub reconnect_spread: Duration,
    /// Streams open at a time, all peers together; more are refused with RESOURCE_EXHAUSTED.
    pub streams: usize,
    /// Streams open at a time on one connection (HTTP/2 MAX_CONCURRENT_STREAMS); more wait in the peer.
    pub streams_per_connection: u32,
    /// Streams opened a second on one connection; more wait unanswered.
    pub streams_per_second: u32,
    /// Streams that may be opened at once before that rate holds.
    pub stream_burst: u32,
    /// Encoded ahead of what the peer has taken, on one stream, in bytes. It keeps a connection busy, and is what a silent
    /// peer costs.
    pub send_buffer_bytes: usize,
    /// Requests read a second on one stream; more wait unread, and so does their sender.
    pub requests_per_second: u32,
    /// Requests that may come at once before that rate holds.
    pub request_burst: u32,
    /// Until a new connection must have sent a request, and a new stream must have named its node.
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
            connections: 20_000,
            connections_per_address: 5_000,
            connections_per_second_per_address: 500,
            connection_burst_per_address: 5_000,
            silent_connections: 2_000,
            handshake: Duration::from_secs(10),
            max_connection_age: None,
            reconnect_spread: Duration::from_secs(5),
            streams: 20_000,
            streams_per_connection: 100,
            streams_per_second: 100,
            stream_burst: 200,
            send_buffer_bytes: 64 << 10,
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
