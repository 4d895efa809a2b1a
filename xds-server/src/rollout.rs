//! Which proxies may have which configuration, and when.
//!
//! One task a group of proxies ([`group`]) follows the desired gateway and the issuers' keys. A [`lane`] publishes
//! snapshots in the order that [`plan`] says, each once every proxy has answered for the one before. What a proxy
//! refuses ([`refusal`]) is held at its last good state ([`hold`]); canaries go first, and are judged ([`canary`]).
//! Nothing here knows protos or streams.

pub mod canary;
mod group;
pub mod hold;
mod lane;
pub mod plan;
pub mod refusal;
pub mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::discovery::{Registry, SnapshotCache};
use crate::gateway::{Gateway, Located, ReferencedFiles, SourceMap};
use crate::load_reports::LoadReports;
use crate::source::key_url::KeyUrls;
use crate::telemetry::Metrics;
use crate::translate::{Modules, QuotaService};
pub use report::{GroupStatus, Statuses};

/// A checked gateway on its way to the proxies.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Version of the texts it came from.
    pub version: String,
    /// What they say.
    pub gateway: Gateway,
    /// Where they say it.
    pub source_map: Arc<SourceMap>,
    /// What stands in the files that they name.
    pub files: ReferencedFiles,
    /// What people should look at; it keeps nothing from the proxies.
    pub warnings: Vec<Located>,
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
    /// What a group's proxies have reported of their requests.
    pub reports: LoadReports,
    /// How Envoys get the filters' code.
    pub modules: watch::Receiver<Modules>,
    /// Where Envoys ask for tokens.
    pub quota: QuotaService,
    /// Time for proxies to accept one step; then the others go on.
    pub deadline: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

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
