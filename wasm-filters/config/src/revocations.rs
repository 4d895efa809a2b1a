//! What filters are told of revoked credentials: by xds-server, when they ask.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a filter asks: `GET {path}?after=CURSOR`, answered with [`RevocationUpdate`] (200) as soon as there is something
/// newer than the cursor, or with 204 when there was nothing for some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationService {
    /// Envoy cluster to call.
    pub cluster: String,
    /// Path of the call.
    pub path: String,
    /// How long to wait for an answer, in milliseconds: longer than the service takes to say that there is nothing.
    pub timeout_ms: u64,
}

/// What was revoked since a cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationUpdate {
    /// What to ask for next: digits, letters and `-`.
    pub cursor: String,
    /// By the name of the list (`revocations` of a provider): every list that was ever read, with what is new on it.
    pub revoked: BTreeMap<String, Vec<Revoked>>,
}

/// A revoked credential: what its id names, the id, and until when it could be accepted, in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked(pub RevokedKind, pub String, pub u64);

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedKind {
    /// An API key.
    ApiKey,
    /// A token, by its `jti`.
    Token,
    /// All tokens of a session, by their `sid`.
    Session,
}
