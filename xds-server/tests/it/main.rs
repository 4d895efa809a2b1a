//! The server as a whole: the program that operators run, and what a proxy on the wire sees of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside #[test] functions"
)]

mod client;
mod client_status;
mod discovery;
mod load_reports;
mod mutual_tls;
mod program;
mod proxy;
mod rollout;
mod secure;
mod silent_readers;
mod transport;
