//! Envoy's foreign functions that this host has, apart from how modules reach them.

pub(crate) mod compression;
pub(crate) mod filter_state;
mod key;
pub(crate) mod sign;
pub(crate) mod verify_signature;
