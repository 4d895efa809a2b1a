//! Serving snapshots over xDS: state of the world and delta, aggregated and one type at a time, on one engine.
//!
//! ```text
//!   publisher ── set(group, snapshot) ──► cache ── watch ──►┐
//!                                                           ├─ service: one task a stream ─► session ─► responses
//!   Envoy ────── requests, ACKs, NACKs ────────────────────►┘                       │
//!                                                           registry ◄── status ────┘ ──► rollout, status page
//! ```
//!
//! [`session`] decides and does no I/O: requests and snapshots in, responses out. [`service`] is the gRPC around it,
//! [`transport`] the connections under it, [`cache`] holds the snapshot of each node group, [`registry`] knows who is connected
//! and what they accepted.
//!
//! Deliberately not here: what is in a snapshot (`translate`) and when a group may move to the next one (`rollout`).

pub mod cache;
pub mod limits;
mod pace;
pub mod registry;
pub mod service;
pub mod session;
pub mod transport;

pub use cache::SnapshotCache;
pub use limits::Limits;
pub use registry::Registry;
pub use service::DiscoveryService;
