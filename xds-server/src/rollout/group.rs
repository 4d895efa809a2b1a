//! One group of proxies on its way: publishes a step, waits for its ACKs, publishes the next.
//!
//! What can happen while it waits: every proxy has the step; one refused it (the group stays where nothing is
//! broken, until the YAML changes); the deadline passes; the YAML or an issuer's keys change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::{Plan, Stage};
use super::{Context, Desired, GroupStatus, Statuses, lock, unix_seconds};
use crate::gateway::Gateway;
use crate::snapshot::{Snapshot, SnapshotBuilder, TypeUrl};
use crate::translate::{KeySets, Target, translate};

/// A cluster is ready a little after its endpoints were accepted: Envoy's main thread accepts, its workers
/// learn of it next.
const WORKERS: Duration = Duration::from_millis(20);

/// Types whose resources refer to others.
const REFERRING: [TypeUrl; 2] = [TypeUrl::LISTENER, TypeUrl::ROUTE];

struct Group {
    name: String,
    plan: Plan<Desired>,
    published: Arc<Snapshot>,
    context: Context,
    statuses: Statuses,
}

/// Why waiting ended.
enum Wake {
    /// Every proxy has the step.
    Arrived,
    /// Some proxy has not, and its time is over.
    Overdue,
    /// The YAML or a key changed.
    Changed,
}

/// Runs for as long as `desired` has a sender.
pub(super) async fn run(
    name: String,
    mut desired: watch::Receiver<Arc<Desired>>,
    context: Context,
    statuses: Statuses,
) {
    let first = Arc::clone(&desired.borrow_and_update());
    let mut keys = context.key_urls.clone();
    let mut group = Group { name, plan: Plan::new(first), published: Arc::default(), context, statuses };
    loop {
        let warm_up = group.publish(&keys.borrow_and_update().clone());
        // Only a step that may break something waits; the last one is waited for to tell of it.
        let mut told = false;
        loop {
            let overdue = (!told).then(|| Instant::now() + group.context.deadline);
            let changed = async {
                tokio::select! {
                    result = desired.changed() => result,
                    result = keys.changed() => result,
                }
            };
            let wake = tokio::select! {
                biased;
                result = changed => match result {
                    Ok(()) => Wake::Changed,
                    Err(_) => return,
                },
                wake = group.wait(overdue, told) => wake,
            };
            match wake {
                Wake::Changed => {
                    group.plan.retarget(Arc::clone(&desired.borrow_and_update()));
                    break;
                }
                Wake::Arrived | Wake::Overdue if group.plan.stage() != Stage::Settled => {
                    if matches!(wake, Wake::Overdue) {
                        group.warn_overdue();
                    } else if group.plan.stage() == Stage::Make {
                        tokio::time::sleep(warm_up).await;
                    }
                    group.plan.advance();
                    break;
                }
                Wake::Arrived => {
                    group.tell_arrived();
                    told = true;
                }
                Wake::Overdue => {
                    group.warn_overdue();
                    told = true;
                }
            }
        }
    }
}

/// Where the group's proxies are with the step that is out.
struct Standing {
    /// All have accepted it.
    arrived: bool,
    /// Some refused part of it.
    refused: bool,
}

impl Group {
    /// Publishes the plan's step, if it differs from what is out. Returns the time that new clusters may take
    /// to warm up once they are accepted.
    fn publish(&mut self, key_urls: &super::KeyUrls) -> Duration {
        let target = self.plan.target();
        let present: Vec<&Gateway> =
            self.plan.present().into_iter().map(|desired| &desired.gateway).collect();
        let keys = KeySets { files: target.key_files.clone(), urls: key_urls.clone() };
        let resources = translate(
            &self.name,
            Target {
                serving: &self.plan.serving().gateway,
                present: &present,
                keys: &keys,
                wasm_dir: &self.context.wasm_dir,
            },
        );
        let mut builder = SnapshotBuilder::replacing(&self.published);
        for resource in &resources {
            builder.insert(&TypeUrl::new(&resource.type_url), &resource.name, &resource.body);
        }
        let snapshot = Arc::new(builder.build());
        let warm_up = self.warm_up(&snapshot);
        if snapshot.version() != self.published.version() {
            let stage = self.plan.stage().as_str();
            tracing::debug!(group = self.name, stage, snapshot = %snapshot.version(), "snapshot published");
            self.context.cache.set(&self.name, Arc::clone(&snapshot));
        } else if self.context.cache.get(&self.name).is_none() {
            self.context.cache.set(&self.name, Arc::clone(&snapshot));
        }
        self.published = snapshot;
        self.update_status();
        warm_up
    }

    /// A cluster with active health checks serves once its endpoints have answered the first of them.
    fn warm_up(&self, next: &Snapshot) -> Duration {
        let known: BTreeSet<&str> =
            self.published.set(&TypeUrl::CLUSTER).iter().map(|cluster| &**cluster.name()).collect();
        let new = next.set(&TypeUrl::CLUSTER).iter().filter(|cluster| !known.contains(&**cluster.name()));
        let desired = self.plan.target();
        new.map(|cluster| {
            let check = desired
                .gateway
                .clusters
                .get(&**cluster.name())
                .and_then(|cluster| cluster.health_check.as_ref());
            WORKERS + check.map_or(Duration::ZERO, |check| check.timeout.get().min(Duration::from_secs(1)))
        })
        .max()
        .unwrap_or(Duration::ZERO)
    }

    /// Waits until every proxy has the step; with `told`, for ever.
    async fn wait(&self, overdue: Option<Instant>, told: bool) -> Wake {
        let mut revision = self.context.registry.watch();
        loop {
            revision.borrow_and_update();
            self.update_status();
            let Standing { arrived, refused } = self.standing();
            if !told && arrived {
                return Wake::Arrived;
            }
            let deadline = async {
                match overdue {
                    // A proxy that refused serves its old routes: what they refer to must stay.
                    Some(deadline) if !refused => tokio::time::sleep_until(deadline).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                result = revision.changed() => if result.is_err() { return Wake::Overdue },
                () = deadline => return Wake::Overdue,
            }
        }
    }

    /// Whether every proxy has accepted what the next stage needs: all of the snapshot, or, while making, what
    /// listeners and routes refer to. A proxy that refused old routes must still get new ones.
    fn standing(&self) -> Standing {
        let making = self.plan.stage() == Stage::Make;
        let needed = |type_url: &TypeUrl| !making || !REFERRING.contains(type_url);
        let assignments = self.published.set(&TypeUrl::ENDPOINT).len();
        let mut standing = Standing { arrived: true, refused: false };
        for connected in self.context.registry.list() {
            if connected.proxy.group != self.name {
                continue;
            }
            for (type_url, status) in connected.types.iter().filter(|(type_url, _)| needed(type_url)) {
                let version = self.published.set(type_url).version();
                standing.arrived &= !status.is_subscribed() || status.acked.as_ref() == Some(version);
                standing.refused |= status.is_subscribed() && status.rejected > 0;
            }
            // A cluster whose endpoints are still to be asked for is not ready.
            let has_clusters = connected.types.get(&TypeUrl::CLUSTER).is_some_and(|status| status.wildcard);
            let asked = connected.types.get(&TypeUrl::ENDPOINT).map_or(0, |status| status.names);
            standing.arrived &= !has_clusters || asked >= assignments;
        }
        standing
    }

    fn update_status(&self) {
        let progress = self.context.registry.progress(&self.name, &self.published);
        let mut statuses = lock(&self.statuses);
        let published_at = match statuses.get(&self.name) {
            Some(known) if known.snapshot == **self.published.version() => known.published_at,
            _ => unix_seconds(SystemTime::now()),
        };
        let status = GroupStatus {
            version: self.plan.target().version.clone(),
            snapshot: self.published.version().to_string(),
            resources: self.published.len(),
            stage: self.plan.stage().as_str(),
            proxies: progress.arrived + progress.pending.len() + progress.refused.len(),
            arrived: progress.arrived,
            refused: progress.refused.len(),
            published_at,
        };
        statuses.insert(self.name.clone(), status);
    }

    fn tell_arrived(&self) {
        let proxies = self.context.registry.progress(&self.name, &self.published).arrived;
        let target = self.plan.target();
        let took = target.read_at.elapsed();
        if proxies > 0 {
            self.context.metrics.arrived(&self.name, took);
        }
        tracing::info!(
            group = self.name,
            version = target.version,
            proxies,
            resources = self.published.len(),
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "configuration pushed"
        );
    }

    fn warn_overdue(&self) {
        let progress = self.context.registry.progress(&self.name, &self.published);
        let pending: Vec<&str> = progress.pending.iter().map(|proxy| proxy.id.as_str()).collect();
        let stage = self.plan.stage().as_str();
        tracing::warn!(
            group = self.name,
            stage,
            ?pending,
            "proxies did not accept a change in time; going on without them"
        );
    }
}
