//! A change on trial with canaries: they go first, are watched, and are followed or taken back.
//!
//! Not here: how they are judged ([`canary`](crate::rollout::canary)).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Group;
use crate::gateway::model::Canary;
use crate::load_reports::ProxyLoad;
use crate::rollout::Desired;
use crate::rollout::canary::{self, Load, Loads, Verdict};
use crate::rollout::lane::{Happened, Lane, Members, Standing};
use crate::rollout::plan::Stage;
use crate::rollout::report::{self, CanaryStatus, Statuses};
use crate::status::{lock, unix_seconds};

/// A change that canaries have before the others.
pub(super) struct Trial {
    pub lane: Lane,
    pub config: Canary,
    pub phase: Phase,
}

pub(super) enum Phase {
    /// On their way to it.
    Moving,
    /// They have it, since then, with that many requests finished before.
    Watching { since: Instant, before: Loads },
    /// Both lanes go to the same, and then are one again.
    Joining,
}

impl Group {
    pub(super) fn has_canaries(&self, config: &Canary) -> bool {
        let selector = canary::selector(config);
        let (mut canaries, mut others) = (false, false);
        self.context.registry.visit(&self.name, |proxy, _| match selector(proxy) {
            true => canaries = true,
            false => others = true,
        });
        if !canaries && others {
            tracing::warn!(
                group = self.name,
                "no canary is connected: the change goes to all proxies at once"
            );
        }
        canaries
    }

    pub(super) fn try_with_canaries(&mut self, config: Canary, target: Arc<Desired>) {
        let selector = canary::selector(&config);
        let members = Members::Only(Arc::clone(&selector));
        self.stable.members = Members::AllBut(selector);
        let mut lane = match self.trial.take() {
            Some(trial) => trial.lane,
            None => self.stable.branch(),
        };
        lane.members = members;
        lane.changed_at = target.read_at;
        lane.plan.retarget(target);
        lane.hand_out();
        tracing::info!(group = self.name, version = self.wanted.version, "canaries first");
        self.trial = Some(Trial { lane, config, phase: Phase::Moving });
        let status = CanaryStatus {
            version: self.wanted.version.clone(),
            state: "moving",
            proxies: 0,
            arrived: 0,
            load: Load::default(),
            until: None,
        };
        self.set_canary(|known| *known = Some(status));
    }

    pub(super) fn on_trial(&mut self, happened: Happened) {
        let before = self.loads();
        let Some(trial) = &mut self.trial else { return };
        match (happened, &trial.phase) {
            (Happened::StepDone, _) => trial.lane.plan.advance(),
            (Happened::Arrived, Phase::Moving) => {
                trial.phase = Phase::Watching { since: Instant::now(), before };
                let until = unix_seconds(SystemTime::now() + trial.config.observe.get());
                self.set_canary(|status| {
                    if let Some(status) = status {
                        (status.state, status.until) = ("watching", Some(until));
                    }
                });
            }
            (Happened::Refused(refusals), Phase::Moving | Phase::Watching { .. }) => {
                let words = refusals.first().map(|refusal| {
                    let unit =
                        self.trial.as_ref().and_then(|trial| self.concerned(refusal, &trial.lane).pop());
                    let place = unit.map(|(unit, _)| self.describe(refusal, &unit, true).text);
                    format!("{} refused it: {}\n{}", refusal.node, refusal.message, place.unwrap_or_default())
                });
                self.roll_back(words.unwrap_or_default().trim_end());
            }
            // On the way back, or together with all others, whose lane deals with what they refuse.
            (Happened::Arrived | Happened::Refused(_), _) => {}
        }
        self.publish();
        self.join();
    }

    pub(super) fn judge(&mut self) {
        let Some(Trial { config, phase: Phase::Watching { since, before }, .. }) = &self.trial else {
            return;
        };
        let selector = canary::selector(config);
        let mut canaries = BTreeSet::new();
        self.context.registry.visit(&self.name, |proxy, _| {
            if selector(proxy) {
                canaries.insert(proxy.id.clone());
            }
        });
        let now = self.loads().into_iter().filter(|(node, _)| canaries.contains(node)).collect();
        let load = canary::growth(before, &now);
        let verdict = canary::judge(config, since.elapsed(), load);
        self.set_canary(|status| {
            if let Some(status) = status {
                status.load = load;
            }
        });
        match verdict {
            Verdict::Wait => return,
            Verdict::Promote(reason) => {
                tracing::info!(
                    group = self.name,
                    version = self.wanted.version,
                    reason,
                    "canaries do well: promoted"
                );
                self.end_trial("promoted", reason);
                let target = self.target();
                self.stable.changed_at = Instant::now();
                self.stable.plan.retarget(target);
            }
            Verdict::RollBack(reason) => self.roll_back(&reason),
        }
        self.publish();
    }

    /// What the group's proxies have reported so far.
    fn loads(&self) -> Loads {
        let proxies = self.context.reports.totals(&self.name).into_iter();
        let sum = |proxy: ProxyLoad| {
            let clusters = proxy.clusters.values();
            let load = clusters.fold(Load::default(), |sum, load| Load {
                requests: sum.requests + load.completed(),
                errors: sum.errors + load.errors,
            });
            (proxy.node_id, load)
        };
        proxies.map(sum).collect()
    }

    /// Canaries go back to where all others are.
    pub(super) fn roll_back(&mut self, reason: &str) {
        tracing::error!(
            group = self.name,
            version = self.wanted.version,
            reason,
            "canaries do badly: rolled back"
        );
        self.end_trial("rolled back", reason.to_owned());
        let back = Arc::clone(self.stable.plan.target());
        if let Some(trial) = &mut self.trial {
            trial.lane.changed_at = Instant::now();
            trial.lane.plan.retarget(back);
        }
    }

    pub(super) fn end_trial(&mut self, outcome: &'static str, reason: String) {
        if let Some(trial) = &mut self.trial {
            trial.phase = Phase::Joining;
        }
        let (version, at) = (self.wanted.version.clone(), unix_seconds(SystemTime::now()));
        let mut statuses = lock(&self.statuses);
        let status = statuses.entry(self.name.clone()).or_default();
        status.last_trial = Some(report::Trial { version, outcome, reason, at });
        if let Some(canary) = &mut status.canary {
            canary.state = "joining";
        }
    }

    /// Makes one lane of two that have become the same.
    pub(super) fn join(&mut self) {
        let Some(trial) = &self.trial else { return };
        let lanes = [&self.stable, &trial.lane];
        let settled = lanes.iter().all(|lane| lane.plan.stage() == Stage::Settled);
        let same = self.stable.published.version() == trial.lane.published.version();
        if matches!(trial.phase, Phase::Joining) && settled && same {
            self.trial = None;
            self.stable.members = Members::All;
            self.context.cache.set_canary(&self.name, None);
            self.set_canary(|status| *status = None);
        }
    }

    pub(super) fn set_canary(&self, change: impl FnOnce(&mut Option<CanaryStatus>)) {
        change(&mut lock(&self.statuses).entry(self.name.clone()).or_default().canary);
    }
}

/// Shows where a group's canaries are.
pub(super) fn tell_canaries(group: &str, lane: &Lane, standing: &Standing, statuses: &Statuses) {
    let mut statuses = lock(statuses);
    let Some(known) = statuses.get_mut(group).and_then(|status| status.canary.as_mut()) else { return };
    known.version.clone_from(&lane.plan.target().version);
    known.proxies = standing.arrived + standing.behind.len();
    known.arrived = standing.arrived;
}
