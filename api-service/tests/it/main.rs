//! The service as its clients meet it: one binary, each test with its own ports and its own empty database.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's helpers fail by panic, too"
)]

mod accounts;
mod catalogue;
mod drain;
mod errors;
mod harness;
mod identity;
mod introspection;
mod keys;
mod openapi;
mod operations;
mod process;
mod revocations;
mod sessions;
mod statistics;
mod store_contract;
mod tidy;
