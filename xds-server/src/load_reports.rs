//! What proxies say of the load on their clusters (LRS): requests, errors and drops, per group, proxy and cluster.
//!
//! ```text
//!   Envoy ── StreamLoadStats ──► service ── Report ──► LoadReports ── totals, revision ──► rollout
//!                                                           └── by_cluster ──► status page, metrics
//! ```
//!
//! A report holds what happened since the one before; this store adds them up, so that a reader who missed some still
//! sees all of it. Memory is bounded by [`LoadLimits`]: what peers name is kept up to there and not beyond.
//!
//! Not here: protos and streams ([`service`]), localities and single endpoints (their numbers are summed up), and any
//! judgement of an error ratio (`rollout`).

pub mod service;
mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::discovery::SnapshotCache;
use crate::snapshot::TypeUrl;
use store::Store;

/// Numbers of requests to one cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Load {
    /// Completed without an error.
    pub successful: u64,
    /// Failed at the upstream: 5xx, resets, time-outs, or the gRPC statuses that mean so.
    pub errors: u64,
    /// Sent to an upstream.
    pub issued: u64,
    /// Not sent, because a circuit breaker was open or load was shed.
    pub dropped: u64,
    /// Open at the time of the last report.
    pub in_progress: u64,
}

impl Load {
    /// Requests that came to an end.
    pub fn completed(&self) -> u64 {
        self.successful.saturating_add(self.errors)
    }

    /// Adds what `later` counted, and takes over what it saw in progress.
    fn add(&mut self, later: &Load) {
        self.successful = self.successful.saturating_add(later.successful);
        self.errors = self.errors.saturating_add(later.errors);
        self.issued = self.issued.saturating_add(later.issued);
        self.dropped = self.dropped.saturating_add(later.dropped);
        self.in_progress = later.in_progress;
    }
}

/// One proxy's load, added up since it was first heard of. A proxy that reconnects goes on where it was; one that was
/// gone for [`LoadLimits::remember`] starts anew.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyLoad {
    /// `node.id`.
    pub node_id: String,
    /// Whether it has a stream to report on.
    pub connected: bool,
    /// When the last report came; `None` before the first.
    pub last_report: Option<SystemTime>,
    /// By name of cluster. Holds whatever the proxy named, its bootstrap's own clusters too.
    pub clusters: BTreeMap<String, Load>,
}

/// The load of one cluster from all proxies of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct ClusterLoad {
    /// Added up over the proxies and over time; it does not shrink while any of them reports.
    #[serde(flatten)]
    pub total: Load,
    /// Requests completed a second, by the last report of each proxy.
    pub requests_per_second: f64,
    /// Errors among the requests completed, by the last report of each proxy; `None` where none completed.
    pub error_ratio: Option<f64>,
}

/// Load by group and cluster.
pub type Loads = BTreeMap<String, BTreeMap<String, ClusterLoad>>;

/// What one proxy reports at a time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What happened since the report before, by name of cluster.
    pub clusters: Vec<(String, Load)>,
    /// How long that was.
    pub period: Duration,
}

/// What all peers together may make the store remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLimits {
    /// Proxies, connected or remembered.
    pub proxies: usize,
    /// Clusters of one proxy.
    pub clusters_per_proxy: usize,
    /// Clusters of all proxies, each counted as often as a proxy reports it.
    pub clusters: usize,
    /// Longest name of a cluster, in bytes.
    pub name_bytes: usize,
    /// How long a proxy whose streams ended, and a cluster nothing was heard of, keep their numbers.
    pub remember: Duration,
}

impl Default for LoadLimits {
    fn default() -> LoadLimits {
        LoadLimits {
            proxies: 20_000,
            clusters_per_proxy: 100_000,
            clusters: 1_000_000,
            name_bytes: 1024,
            remember: Duration::from_secs(300),
        }
    }
}

/// Load reports of all proxies. Clones share their content.
#[derive(Debug, Clone)]
pub struct LoadReports {
    store: Arc<Mutex<Store>>,
    revision: Arc<watch::Sender<u64>>,
}

impl LoadReports {
    /// Nothing was reported yet.
    pub fn new(limits: LoadLimits) -> LoadReports {
        LoadReports {
            store: Arc::new(Mutex::new(Store::new(limits))),
            revision: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Every proxy of the group that reports, or did lately, in order of its id.
    pub fn totals(&self, group: &str) -> Vec<ProxyLoad> {
        self.lock().totals(group)
    }

    /// A number that grows with every report, and with every proxy that comes or goes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The load of every cluster that its group's snapshot knows: what a peer makes up is not shown, and can't become
    /// a metric's label.
    pub fn by_cluster(&self, known: &SnapshotCache) -> Loads {
        let store = self.lock();
        let groups = store.groups().filter_map(|group| {
            let snapshot = known.get(group)?;
            let clusters = store.by_cluster(group, |name| snapshot.get(&TypeUrl::CLUSTER, name).is_some());
            Some((group.to_owned(), clusters))
        });
        groups.collect()
    }

    /// A proxy begins to report; it does until the result is dropped. `None` when there are too many.
    fn open(&self, group: &str, node_id: &str) -> Option<Reporter> {
        if !self.lock().open(group, node_id, SystemTime::now()) {
            return None;
        }
        self.changed();
        Some(Reporter { reports: self.clone(), group: group.to_owned(), node_id: node_id.to_owned() })
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    // Held for the length of one report at most, never while sending.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LoadReports {
    fn default() -> LoadReports {
        LoadReports::new(LoadLimits::default())
    }
}

/// A proxy's place in the store.
#[derive(Debug)]
struct Reporter {
    reports: LoadReports,
    group: String,
    node_id: String,
}

impl Reporter {
    /// Takes a report; returns how many of its clusters are past the limits and were not kept.
    fn report(&self, report: Report) -> usize {
        let lost = self.reports.lock().report(&self.group, &self.node_id, report, SystemTime::now());
        self.reports.changed();
        lost
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.reports.lock().close(&self.group, &self.node_id, SystemTime::now());
        self.reports.changed();
    }
}
