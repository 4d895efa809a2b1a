//! One group of proxies on its way: publishes a step, waits for its ACKs, publishes the next.
//!
//! What can happen while it waits: every proxy has the step; one refused it (the group stays where nothing is
//! broken, until the YAML changes); the deadline passes; the YAML or an issuer's keys change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

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
    /// When the change that is under way began.
    changed_at: Instant,
    /// Something was published, and nothing said yet of its arrival.
    untold: bool,
    /// Time that clusters new to this stage may take until they serve.
    warm_up: Duration,
    context: Context,
    statuses: Statuses,
}

/// Where the group's proxies are with the step that is out.
struct Standing {
    /// Any is connected.
    anyone: bool,
    /// All have accepted it.
    arrived: bool,
    /// Some refused part of it.
    refused: bool,
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
    let mut group = Group {
        name,
        published: Arc::default(),
        changed_at: first.read_at,
        untold: false,
        warm_up: Duration::ZERO,
        plan: Plan::new(first),
        context,
        statuses,
    };
    loop {
        let key_urls = keys.borrow_and_update().clone();
        group.publish(&key_urls);
        tokio::select! {
            biased;
            changed = desired.changed() => {
                if changed.is_err() {
                    return;
                }
                let target = Arc::clone(&desired.borrow_and_update());
                group.changed_at = target.read_at;
                group.plan.retarget(target);
            }
            changed = keys.changed() => {
                if changed.is_err() {
                    return;
                }
                group.changed_at = Instant::now();
            }
            () = group.step() => {
                group.plan.advance();
                group.warm_up = Duration::ZERO;
            }
        }
    }
}

impl Group {
    /// Publishes the plan's step, if it differs from what is out.
    fn publish(&mut self, key_urls: &super::KeyUrls) {
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
        self.warm_up = self.warm_up.max(self.warm_up_of(&snapshot));
        if snapshot.version() != self.published.version() || self.context.cache.get(&self.name).is_none() {
            let stage = self.plan.stage().as_str();
            tracing::debug!(group = self.name, stage, snapshot = %snapshot.version(), "snapshot published");
            self.context.cache.set(&self.name, Arc::clone(&snapshot));
            self.untold = true;
        }
        self.published = snapshot;
        self.update_status();
    }

    /// A cluster with active health checks serves once its endpoints have answered the first of them.
    fn warm_up_of(&self, next: &Snapshot) -> Duration {
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

    /// Ends once the next stage may begin. The last stage never ends: it tells when it has arrived.
    async fn step(&mut self) {
        let mut revision = self.context.registry.watch();
        let settled = self.plan.stage() == Stage::Settled;
        let mut deadline = Instant::now() + self.context.deadline;
        // Else the time would be that of the proxy's start.
        let was_awaited = self.standing().anyone;
        loop {
            revision.borrow_and_update();
            self.update_status();
            let Standing { anyone, arrived, refused } = self.standing();
            // A proxy that refused serves its old routes: what they refer to must stay, however long.
            let overdue = !arrived && !refused && Instant::now() >= deadline;
            if arrived {
                // Whoever connects later has its own time.
                deadline = Instant::now() + self.context.deadline;
            }
            if overdue && (!settled || self.untold) {
                self.warn_overdue();
            }
            match (settled, arrived) {
                (false, true) => return tokio::time::sleep(self.warm_up).await,
                (false, false) if overdue => return,
                (true, true) if anyone && self.untold => self.tell_arrived(was_awaited),
                _ => {}
            }
            self.untold &= !(overdue || arrived && anyone);
            let is_timed = !arrived && !refused && (!settled || self.untold);
            tokio::select! {
                changed = revision.changed() => if changed.is_err() { return std::future::pending().await },
                () = tokio::time::sleep_until(deadline.into()), if is_timed => {}
            }
        }
    }

    /// Whether every proxy has accepted what the next stage needs: all of the snapshot, or, while making, what
    /// listeners and routes refer to. A proxy that refused old routes must still get new ones.
    fn standing(&self) -> Standing {
        let making = self.plan.stage() == Stage::Make;
        let needed = |type_url: &TypeUrl| !making || !REFERRING.contains(type_url);
        let assignments = self.published.set(&TypeUrl::ENDPOINT).len();
        let mut standing = Standing { anyone: false, arrived: true, refused: false };
        for connected in self.context.registry.list() {
            if connected.proxy.group != self.name {
                continue;
            }
            standing.anyone = true;
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

    /// `was_awaited`: proxies were there when it was published, so that the time says how fast it was.
    fn tell_arrived(&self, was_awaited: bool) {
        let proxies = self.context.registry.progress(&self.name, &self.published).arrived;
        let took = self.changed_at.elapsed();
        if was_awaited {
            self.context.metrics.arrived(&self.name, took);
        }
        tracing::info!(
            group = self.name,
            version = self.plan.target().version,
            proxies,
            resources = self.published.len(),
            took_ms = was_awaited.then(|| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
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
