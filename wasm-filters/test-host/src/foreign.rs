//! Envoy's foreign functions that this host has, apart from how modules reach them.

pub(crate) mod verify_signature;
