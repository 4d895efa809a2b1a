//! Accounts, API keys, catalogue and daily statistics over HTTP: the backend behind the gateway.
pub mod accounts;
pub mod api_keys;
pub mod cache;
pub mod catalogue;
pub mod clock;
pub mod error;
pub mod events;
pub mod id;
pub mod page;
pub mod secret;
pub mod sessions;
pub mod statistics;
pub mod store;
mod text;
