//! Which proxies may have which configuration, and when.
//!
//! One task a group of proxies ([`group`]) follows the desired gateway and the issuers' keys, and publishes
//! snapshots in the order that [`plan`] says, each once every proxy has accepted the one before. Nothing here
//! knows YAML or streams.

mod group;
pub mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::discovery::{Registry, SnapshotCache};
use crate::gateway::Gateway;
use crate::source::key_file::KeyFiles;
use crate::source::key_url::KeyUrls;
use crate::telemetry::Metrics;
use crate::translate::Modules;

/// A checked gateway on its way to the proxies.
#[derive(Debug)]
pub struct Desired {
    /// Version of the texts it came from.
    pub version: String,
    /// What they say.
    pub gateway: Gateway,
    /// Issuers' keys that came with them.
    pub key_files: KeyFiles,
    /// When it was read, for the time it takes to arrive.
    pub read_at: Instant,
}

/// What every group's task needs.
#[derive(Clone)]
pub struct Context {
    /// Where snapshots are published.
    pub cache: SnapshotCache,
    /// Who accepted what.
    pub registry: Registry,
    /// Keys that were fetched.
    pub key_urls: watch::Receiver<KeyUrls>,
    /// How Envoys get the filters' code.
    pub modules: watch::Receiver<Modules>,
    /// Time for proxies to accept one step; then the others go on.
    pub deadline: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Where a group is; for the status page.
#[derive(Debug, Clone, serde::Serialize)]
pub struct GroupStatus {
    /// Version of the configuration it goes to.
    pub version: String,
    /// Version of its snapshot.
    pub snapshot: String,
    /// Resources in the snapshot.
    pub resources: usize,
    /// `make`, `move` or `settled`.
    pub stage: &'static str,
    /// Proxies connected, and those of them that have accepted the snapshot.
    pub proxies: usize,
    /// Proxies that have it.
    pub arrived: usize,
    /// Proxies that refused part of it.
    pub refused: usize,
    /// When the snapshot was published, in seconds since 1970.
    pub published_at: u64,
}

/// Statuses of all groups.
pub type Statuses = Arc<Mutex<BTreeMap<String, GroupStatus>>>;

/// Moves all groups to whatever is desired.
pub struct Rollout {
    context: Context,
    groups: BTreeMap<String, watch::Sender<Arc<Desired>>>,
    tasks: JoinSet<()>,
    statuses: Statuses,
}

impl Rollout {
    /// Nothing to roll out yet.
    pub fn new(context: Context) -> Self {
        Self { context, groups: BTreeMap::new(), tasks: JoinSet::new(), statuses: Statuses::default() }
    }

    /// Where all groups are.
    pub fn statuses(&self) -> Statuses {
        Arc::clone(&self.statuses)
    }

    /// Starts to move every group to `desired`. A group that is no longer named moves to nothing. Must be called
    /// within a runtime.
    pub fn apply(&mut self, desired: &Arc<Desired>) {
        for group in desired.gateway.proxies.keys() {
            if !self.groups.contains_key(group.as_str()) {
                let (sender, receiver) = watch::channel(Arc::clone(desired));
                let run =
                    group::run(group.to_string(), receiver, self.context.clone(), Arc::clone(&self.statuses));
                self.tasks.spawn(run);
                self.groups.insert(group.to_string(), sender);
            }
        }
        for sender in self.groups.values() {
            sender.send_if_modified(|current| {
                let differs = !Arc::ptr_eq(current, desired);
                if differs {
                    *current = Arc::clone(desired);
                }
                differs
            });
        }
    }
}
