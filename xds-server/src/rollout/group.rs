//! One group of proxies on its way, as a task. Its events: another gateway is wanted; an issuer's keys or a filter's
//! code changed; a lane's step is done, has arrived, or was refused; it is time to judge canaries.
//!
//! A refusal never holds the group up: the [`Unit`]s that it concerns go back to what was last good, for all proxies,
//! and the rest moves on. Where a proxy does not say which resource is wrong, everything that changed goes back, and is
//! tried again one by one.

mod refused;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::hold::{Unit, compose};
use super::lane::{Happened, KEYS, Lane, Standing};
use super::report::{GroupStatus, Held, Statuses, TypeSize};
use super::{Context, Desired};
use crate::snapshot::{ResourceSet, Snapshot};
use crate::source::key_url::KeyUrls;
use crate::status::{lock, unix_seconds};
use trial::{Phase, Trial, tell_canaries};

/// How often canaries' requests are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

struct Group {
    name: String,
    /// What the files say, whatever is made of it.
    wanted: Arc<Desired>,
    /// The way of all proxies, but for the canaries while there is a trial.
    stable: Lane,
    trial: Option<Trial>,
    good: Option<Good>,
    held: BTreeMap<Unit, Entry>,
    keys: KeyUrls,
    context: Context,
    statuses: Statuses,
}

/// What every proxy has answered for, and as it was published.
struct Good {
    desired: Arc<Desired>,
    snapshot: Arc<Snapshot>,
    /// Not good: refused, and nothing better known.
    but: BTreeSet<Unit>,
}

/// A refused unit.
struct Entry {
    /// What said it.
    refused: Arc<Desired>,
    /// It only changed together with what was refused: to be tried again by itself.
    is_suspect: bool,
    held: Held,
}

/// Runs for as long as `desired` has a sender.
pub(super) async fn run(
    name: String,
    mut desired: watch::Receiver<Arc<Desired>>,
    context: Context,
    statuses: Statuses,
) {
    let first = Arc::clone(&desired.borrow_and_update());
    let (mut keys, mut modules) = (context.key_urls.clone(), context.modules.clone());
    let stable = Lane::new(&name, Arc::clone(&first), context.clone());
    // Whoever fetches tells of keys that don't come.
    drop(tokio::time::timeout(KEYS, keys.wait_for(|keys| stable.has_keys(keys))).await);
    let mut group = Group {
        name,
        wanted: first,
        stable,
        trial: None,
        good: None,
        held: BTreeMap::new(),
        keys: keys.borrow_and_update().clone(),
        context,
        statuses,
    };
    group.publish();
    loop {
        let Group { stable, trial, keys: key_urls, name, statuses, .. } = &mut group;
        let is_watching = trial.as_ref().is_some_and(|trial| matches!(trial.phase, Phase::Watching { .. }));
        let on_trial = async {
            match trial {
                Some(trial) => {
                    trial
                        .lane
                        .step(key_urls, |lane, standing| tell_canaries(name, lane, standing, statuses))
                        .await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = desired.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = Arc::clone(&desired.borrow_and_update());
                group.want(wanted);
            }
            changed = keys.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Instant::now();
                group.keys = keys.borrow_and_update().clone();
                group.lanes().for_each(|lane| lane.changed_at = now);
                group.publish();
            }
            changed = modules.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Instant::now();
                group.lanes().for_each(|lane| lane.changed_at = now);
                group.publish();
            }
            happened = stable.step(key_urls, |lane, standing| tell(name, lane, standing, statuses)) => {
                group.on_stable(happened);
            }
            happened = on_trial => group.on_trial(happened),
            () = tokio::time::sleep(LOOK_EVERY), if is_watching => group.judge(),
        }
    }
}

impl Group {
    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        std::iter::once(&mut self.stable).chain(self.trial.as_mut().map(|trial| &mut trial.lane))
    }

    fn publish(&mut self) {
        let keys = self.keys.clone();
        self.lanes().for_each(|lane| lane.publish(&keys));
    }

    /// Another gateway is wanted: for canaries first, where there are any.
    fn want(&mut self, wanted: Arc<Desired>) {
        self.held.retain(|unit, entry| !unit.differs(&wanted, &entry.refused));
        self.wanted = wanted;
        let target = self.target();
        let config = self.wanted.gateway.proxies.get(&*self.name).and_then(|proxies| proxies.canary.clone());
        match config.filter(|config| self.has_canaries(config)) {
            Some(config) => self.try_with_canaries(config, target),
            None => self.go(target),
        }
        self.tell_held();
        self.publish();
    }

    /// What is wanted, less what is held.
    fn target(&self) -> Arc<Desired> {
        let held: BTreeSet<Unit> = self
            .held
            .iter()
            .filter(|(_, entry)| entry.held.last_good)
            .map(|(unit, _)| unit.clone())
            .collect();
        match &self.good {
            Some(good) if !held.is_empty() => Arc::new(compose(&self.wanted, &good.desired, &held)),
            _ => Arc::clone(&self.wanted),
        }
    }

    /// Everybody goes there.
    fn go(&mut self, target: Arc<Desired>) {
        for lane in self.lanes() {
            lane.changed_at = target.read_at;
            lane.plan.retarget(Arc::clone(&target));
        }
        if let Some(trial) = &mut self.trial {
            trial.phase = Phase::Joining;
        }
    }

    fn on_stable(&mut self, happened: Happened) {
        match happened {
            Happened::StepDone => self.stable.plan.advance(),
            Happened::Arrived => self.arrived(),
            Happened::Refused(refusals) => self.refused(&refusals),
        }
        self.publish();
        self.join();
    }
}

/// Shows where a group is.
fn tell(group: &str, lane: &Lane, standing: &Standing, statuses: &Statuses) {
    let mut statuses = lock(statuses);
    let known = statuses.entry(group.to_owned()).or_default();
    let snapshot = &lane.published;
    if known.snapshot != **snapshot.version() {
        known.snapshot = snapshot.version().to_string();
        known.published_at = unix_seconds(SystemTime::now());
        let size = |set: &ResourceSet| TypeSize { resources: set.len(), bytes: set.delta_len() };
        known.types = snapshot.types().map(|(type_url, set)| (type_url.short(), size(set))).collect();
    }
    *known = GroupStatus {
        version: lane.plan.target().version.clone(),
        resources: snapshot.len(),
        stage: lane.plan.stage().as_str(),
        proxies: standing.arrived + standing.behind.len(),
        arrived: standing.arrived,
        refused: standing.refused,
        waiting: standing.waiting.iter().cloned().collect(),
        ..std::mem::take(known)
    };
}
