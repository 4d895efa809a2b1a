//! The server as a whole: the program that operators run, and what a proxy on the wire sees of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside #[test] functions"
)]

mod client;
mod discovery;
mod program;
mod proxy;
mod rollout;
