//! The end-to-end suite: real servers, real Envoy, requests through them. One module a topic, one binary for all.
//!
//! Slow servers are shared: a module's tests use one [`Shared`](tollgate_tests::gateway::Shared) gateway where their
//! edits do not disturb each other, and start their own where they do.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test, what cannot go on is a failure"
)]

mod bootstraps;
mod connections;
mod counters;
mod credentials;
mod edits;
mod etcd;
mod grpc_clients;
mod launcher;
mod limit_keys;
mod limits;
mod load_reports;
mod many_keys;
mod matches;
mod modules;
mod native_filters;
mod on_demand;
mod parity;
mod quota;
mod replicas;
mod requirements;
mod revocations;
mod rollout;
mod routes;
mod runtime;
mod runtime_ttl;
mod servers;
mod sources;
mod tls;
mod tokens;
mod transport;
mod upstreams;
mod yaml;
