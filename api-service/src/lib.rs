//! Accounts, API keys, catalogue and daily statistics over HTTP: the backend behind the gateway.
//!
//! ```text
//!  public port ──┐   http          accounts, sessions,        store, statistics ──► SQLite
//!                ├─► (axum; the ─► api_keys, catalogue,  ──►  cache             ──► memory
//!  internal port ┘   only HTTP)    statistics (rules)         events            ──► log
//! ```
//!
//! * `http` turns requests into calls of the domain and its errors into problem documents (RFC 9457).
//! * The domain modules hold the rules. They know neither axum nor sqlx, and reach what they need through the
//!   traits of [`store`], [`statistics`], [`cache`] and [`events`], each of which may get another backend.
//! * [`server`] listens and drains, [`application`] puts all of it together, [`process`] is the Unix process.

pub mod accounts;
pub mod api_keys;
pub mod application;
pub mod cache;
pub mod catalogue;
pub mod clock;
pub mod error;
pub mod events;
mod http;
pub mod id;
pub mod metrics;
pub mod page;
pub mod process;
pub mod revocations;
pub mod secret;
pub mod server;
pub mod sessions;
pub mod settings;
pub mod statistics;
pub mod store;
mod text;
