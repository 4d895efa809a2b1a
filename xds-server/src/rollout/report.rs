//! Where groups are, as `/status`, the status page and the metrics show it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::canary::Load;

/// Statuses of all groups.
pub type Statuses = Arc<Mutex<BTreeMap<String, GroupStatus>>>;

/// Where a group is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GroupStatus {
    /// Version of the configuration it goes to.
    pub version: String,
    /// Version of its snapshot.
    pub snapshot: String,
    /// Resources in the snapshot.
    pub resources: usize,
    /// The same by type (`CDS`, `EDS`, …).
    pub types: BTreeMap<&'static str, TypeSize>,
    /// `make`, `move` or `settled`.
    pub stage: &'static str,
    /// Streams connected. Usually one a proxy; proxies that don't aggregate have one a type.
    pub proxies: usize,
    /// Streams that have answered for all of the snapshot.
    pub arrived: usize,
    /// Streams that refused part of it.
    pub refused: usize,
    /// Proxies that have not answered, by node id.
    pub waiting: Vec<String>,
    /// When the snapshot was published, in seconds since 1970.
    pub published_at: u64,
    /// What proxies refused, and how it stands with it.
    pub held: Vec<Held>,
    /// The change that is on trial with some proxies.
    pub canary: Option<CanaryStatus>,
    /// How the last trial ended.
    pub last_trial: Option<Trial>,
}

/// How much of a type a snapshot has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TypeSize {
    /// Resources.
    pub resources: usize,
    /// Bytes, as a delta response carries them.
    pub bytes: usize,
}

/// Something that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// `CDS`, `LDS`, …
    #[serde(rename = "type")]
    pub type_name: &'static str,
    /// The cluster or listener.
    pub name: String,
    /// The proxy's words.
    pub reason: String,
    /// Who said so first.
    pub node: String,
    /// Whether all proxies keep the last good version. If not, none is known, and the refused one is out.
    pub last_good: bool,
    /// File of the YAML that made it, with line and column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// For people: the line, and a caret.
    pub text: String,
    /// When, in seconds since 1970.
    pub since: u64,
}

/// A change that some proxies have before the others.
#[derive(Debug, Clone, Serialize)]
pub struct CanaryStatus {
    /// Version of the configuration on trial.
    pub version: String,
    /// `moving`, `watching`, or `joining` (going back, or everybody following).
    pub state: &'static str,
    /// Streams of canaries.
    pub proxies: usize,
    /// Streams of canaries that have answered for all of it.
    pub arrived: usize,
    /// What their requests came to since they all have it.
    pub load: Load,
    /// When it is judged at the earliest, in seconds since 1970.
    pub until: Option<u64>,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// Version of the configuration that was on trial.
    pub version: String,
    /// `promoted` or `rolled back`.
    pub outcome: &'static str,
    /// Why.
    pub reason: String,
    /// When, in seconds since 1970.
    pub at: u64,
}
