//! What the filters decide, without Envoy.
//!
//! Headers, a policy and the time go in; a decision comes out. The thin `cdylib` crates beside this one make
//! the host calls, so everything here is tested natively, with any clock and any bytes.
//!
//! ```text
//! headers ─► auth ──► api_key ─► cache           headers ─► rate_limit ─► bucket (GCRA)
//!              └────► jwt ─► jwks ─► signature                  └───────► slots (shared data)
//! ```
//!
//! There is no I/O in this crate, no clock, no randomness and no `proxy-wasm`: the caller brings them.
//! Nothing in it panics, whatever the bytes.

pub mod api_key;
pub mod auth;
pub mod bucket;
pub mod cache;
mod config_error;
mod der;
pub mod grpc;
pub mod headers;
pub mod jwks;
pub mod jwt;
pub mod lease;
pub mod parts;
pub mod path_template;
pub mod problem;
pub mod quota;
pub mod rate_limit;
pub mod revocations;
pub mod signature;
pub mod slots;
pub mod tally;
#[cfg(test)]
mod vectors;

pub use config_error::ConfigError;
