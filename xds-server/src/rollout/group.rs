//! One group of proxies on its way: publishes a step, waits for its ACKs, publishes the next.
//!
//! What can happen while it waits: every proxy has the step; one refused it (the group stays where nothing is
//! broken, until the YAML changes); the deadline passes (whoever is behind is waited for no more, until it has caught
//! up); the YAML or an issuer's keys change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::plan::{Plan, Stage};
use super::{Context, Desired, GroupStatus, Statuses};
use crate::gateway::Gateway;
use crate::snapshot::{Snapshot, SnapshotBuilder, TypeUrl};
use crate::source::key_url::{self, KeyUrls};
use crate::status::{lock, unix_seconds};
use crate::translate::{KeySets, Target, translate};

/// A cluster is ready a little after it was accepted: Envoy's main thread accepts, once the cluster is warm, and its
/// workers learn of it next.
const WORKERS: Duration = Duration::from_millis(20);

/// Time for issuers to give their keys before a step goes on without them. At the start, Envoys that come back hold
/// keys that work: better nothing new than a configuration without keys.
const KEYS: Duration = Duration::from_secs(5);

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
    /// Since when somebody is waited for. Edits that follow each other don't begin anew.
    waiting_since: Option<Instant>,
    /// Streams that took too long, and are waited for no more until they have caught up.
    given_up: BTreeSet<u64>,
    context: Context,
    statuses: Statuses,
}

/// Where the group's proxies are with the step that is out.
#[derive(Default)]
struct Standing {
    /// Streams that have accepted it.
    arrived: usize,
    /// Streams that have not, and did not refuse it either.
    behind: BTreeSet<u64>,
    /// Streams that refused part of it.
    refused: usize,
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
    let mut modules = context.modules.clone();
    let mut group = Group {
        name,
        published: Arc::default(),
        changed_at: first.read_at,
        untold: false,
        waiting_since: None,
        given_up: BTreeSet::new(),
        plan: Plan::new(first),
        context,
        statuses,
    };
    // Whoever fetches tells of keys that don't come.
    drop(tokio::time::timeout(KEYS, keys.wait_for(|keys| group.has_keys(keys))).await);
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
            changed = modules.changed() => {
                if changed.is_err() {
                    return;
                }
                group.changed_at = Instant::now();
            }
            () = group.step(&key_urls) => group.plan.advance(),
        }
    }
}

impl Group {
    /// Publishes the plan's step, if it differs from what is out.
    fn publish(&mut self, key_urls: &KeyUrls) {
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
                modules: &self.context.modules.borrow().clone(),
            },
        );
        let mut builder = SnapshotBuilder::replacing(&self.published);
        for resource in &resources {
            builder.insert(&TypeUrl::new(&resource.type_url), &resource.name, &resource.body);
        }
        let snapshot = Arc::new(builder.build());
        if snapshot.version() != self.published.version() || self.context.cache.get(&self.name).is_none() {
            let stage = self.plan.stage().as_str();
            tracing::debug!(group = self.name, stage, snapshot = %snapshot.version(), "snapshot published");
            self.context.cache.set(&self.name, Arc::clone(&snapshot));
            self.untold = true;
        }
        self.published = snapshot;
    }

    /// Ends once the next stage may begin. The last stage never ends: it tells when it has arrived.
    async fn step(&mut self, keys: &KeyUrls) {
        let mut revision = self.context.registry.watch();
        let settled = self.plan.stage() == Stage::Settled;
        // Else the time would be that of the proxy's start.
        let standing = self.standing();
        self.update_status(&standing);
        let was_awaited = !standing.behind.is_empty();
        if self.plan.stage() == Stage::Make && !self.has_keys(keys) {
            // One that comes begins this stage anew.
            tokio::time::sleep(KEYS).await;
        }
        loop {
            revision.borrow_and_update();
            let standing = self.standing();
            self.update_status(&standing);
            let Standing { arrived, behind, refused } = standing;
            self.given_up.retain(|stream| behind.contains(stream));
            let awaited = behind.difference(&self.given_up).count();
            self.waiting_since = match awaited {
                0 => None,
                _ => self.waiting_since.or_else(|| Some(Instant::now())),
            };
            // A proxy that refused serves its old routes: what they refer to must stay, however long.
            if awaited == 0 && refused == 0 {
                if !settled {
                    // Nothing new is out where only routes were edited.
                    if self.plan.stage() == Stage::Make && self.untold {
                        tokio::time::sleep(WORKERS).await;
                    }
                    return;
                }
                if arrived > 0 && self.untold {
                    self.untold = false;
                    self.tell_arrived(arrived, was_awaited);
                }
            }
            let deadline = self.waiting_since.map(|since| since + self.context.deadline);
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.warn_overdue(&behind);
                self.given_up.extend(behind);
                continue;
            }
            let overdue = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = revision.changed() => if changed.is_err() { return std::future::pending().await },
                () = overdue => {}
            }
        }
    }

    /// Whether the keys of every issuer that the target names were fetched.
    fn has_keys(&self, keys: &KeyUrls) -> bool {
        key_url::urls(&self.plan.target().gateway).keys().all(|url| keys.contains_key(url))
    }

    /// Where the proxies are with what the next stage needs: all of the snapshot, or, while making, what listeners and
    /// routes refer to. A proxy that refused old routes must still get new ones.
    fn standing(&self) -> Standing {
        let making = self.plan.stage() == Stage::Make;
        let assignments = self.published.set(&TypeUrl::ENDPOINT).len();
        let mut standing = Standing::default();
        for connected in self.context.registry.list() {
            if connected.proxy.group != self.name {
                continue;
            }
            // A cluster whose endpoints are still to be asked for is not ready.
            let has_clusters = connected.types.get(&TypeUrl::CLUSTER).is_some_and(|status| status.wildcard);
            let asked = connected.types.get(&TypeUrl::ENDPOINT).map_or(0, |status| status.names);
            let (mut behind, mut refused) = (has_clusters && asked < assignments, false);
            for (type_url, status) in &connected.types {
                if status.is_subscribed() && !(making && REFERRING.contains(type_url)) {
                    refused |= status.rejected > 0;
                    behind |= status.acked.as_ref() != Some(self.published.set(type_url).version());
                }
            }
            match (refused, behind) {
                (true, _) => standing.refused += 1,
                (false, true) => drop(standing.behind.insert(connected.proxy.stream)),
                (false, false) => standing.arrived += 1,
            }
        }
        standing
    }

    fn update_status(&self, Standing { arrived, behind, refused }: &Standing) {
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
            proxies: arrived + behind.len() + refused,
            arrived: *arrived,
            refused: *refused,
            published_at,
        };
        statuses.insert(self.name.clone(), status);
    }

    /// `was_awaited`: proxies were there when it was published, so that the time says how fast it was.
    fn tell_arrived(&self, proxies: usize, was_awaited: bool) {
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

    fn warn_overdue(&self, behind: &BTreeSet<u64>) {
        let connected = self.context.registry.list();
        let pending: Vec<&str> = connected
            .iter()
            .filter(|connected| behind.contains(&connected.proxy.stream))
            .map(|connected| connected.proxy.id.as_str())
            .collect();
        let stage = self.plan.stage().as_str();
        tracing::warn!(
            group = self.name,
            stage,
            ?pending,
            "proxies did not accept a change in time; going on without them"
        );
    }
}
