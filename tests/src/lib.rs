//! The harness: starts the real servers as processes, edits their YAML, and sends requests through them.
//!
//! ```text
//! launcher (make run) ─┐              ┌─ xds-server   ── process: spawn, capture, stop; nothing left behind
//! gateway  (tests)    ─┼─► stack ─────┼─ edge Envoy   ── render:  the repository's files on other ports
//! bench    (make bench)┘              ├─ sidecar Envoy
//!                                     └─ api-service
//! http_client, load, tls, upstream: both ends of the requests that go through
//! ```
//!
//! It drives binaries and knows none of their internals: what it relies on is their flags, their log lines,
//! their HTTP endpoints and their exit codes.

pub mod bench;
pub mod envoy;
pub mod etcd;
pub mod gateway;
pub mod http_client;
pub mod launcher;
pub mod load;
pub mod port_owner;
pub mod ports;
pub mod process;
pub mod random_gateway;
pub mod redis;
pub mod render;
pub mod replica;
pub mod runtime;
pub mod secure_xds;
pub mod slow_link;
pub mod soak;
pub mod stack;
pub mod tls;
pub mod toolbox;
pub mod upstream;
pub mod usage;
pub mod wait;
pub mod work_dir;
