//! What becomes of refusals: what they concern is held at what was last good, and the rest moves on.
//!
//! Not here: what the gateway looks like then ([`compose`](crate::rollout::hold::compose)).

use std::sync::Arc;
use std::time::SystemTime;

use super::{Entry, Good, Group};
use crate::rollout::hold::Unit;
use crate::rollout::lane::Lane;
use crate::rollout::refusal::Refusal;
use crate::rollout::report::Held;
use crate::snapshot::ResourceSet;
use crate::status::{lock, unix_seconds};

impl Group {
    /// Everybody has answered for the target: it is what later refusals go back to.
    pub(super) fn arrived(&mut self) {
        let but = self.held.iter().filter(|(_, entry)| !entry.held.last_good).map(|(unit, _)| unit.clone());
        let target = Arc::clone(self.stable.plan.target());
        let took = self.stable.took();
        if let Some(took) = took {
            self.context.metrics.arrived(&self.name, took);
        }
        tracing::info!(
            group = self.name,
            version = target.version,
            proxies = self.stable.standing().proxies.len(),
            resources = self.stable.published.len(),
            held = self.held.len(),
            took_ms = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            "configuration pushed"
        );
        self.good =
            Some(Good { but: but.collect(), desired: target, snapshot: Arc::clone(&self.stable.published) });
        let suspect = self.held.iter().find(|(_, entry)| entry.is_suspect).map(|(unit, _)| unit.clone());
        if let Some(unit) = suspect {
            tracing::info!(group = self.name, ?unit, "trying again by itself what was refused among others");
            self.held.remove(&unit);
            self.tell_held();
            let target = self.target();
            self.stable.plan.retarget(target);
        }
    }

    /// Holds what the refusals concern, and goes on with the rest.
    pub(super) fn refused(&mut self, refusals: &[Refusal]) {
        let mut changed = false;
        for refusal in refusals {
            for (unit, is_suspect) in self.concerned(refusal, &self.stable) {
                if self.held.contains_key(&unit) {
                    continue;
                }
                let refused = Arc::clone(self.stable.plan.target());
                let last_good = self
                    .good
                    .as_ref()
                    .is_some_and(|good| !good.but.contains(&unit) && unit.differs(&refused, &good.desired));
                let held = self.describe(refusal, &unit, last_good);
                tracing::error!(
                    group = self.name,
                    node = held.node,
                    r#type = held.type_name,
                    name = held.name,
                    file = held.file,
                    line = held.line,
                    column = held.column,
                    reason = held.reason,
                    last_good,
                    "refused by a proxy; the rest moves on\n{}",
                    held.text
                );
                changed |= last_good;
                self.held.insert(unit, Entry { refused, is_suspect: is_suspect && last_good, held });
            }
        }
        self.tell_held();
        if changed {
            let target = self.target();
            self.stable.plan.retarget(target);
        }
    }

    /// The units a refusal concerns, and whether each is only one of several suspects.
    pub(super) fn concerned(&self, refusal: &Refusal, lane: &Lane) -> Vec<(Unit, bool)> {
        let none = ResourceSet::default();
        let good = self.good.as_ref().map_or(&none, |good| good.snapshot.set(&refusal.type_url));
        let (units, is_certain) = refusal.units(lane.set_of(&refusal.type_url, &refusal.version), good);
        if units.is_empty() {
            let (group, node, reason) = (&self.name, &refusal.node, &refusal.message);
            tracing::warn!(group, node, reason, "refused, and not known what for");
        }
        let are_suspects = !is_certain && units.len() > 1;
        units.into_iter().map(|unit| (unit, are_suspects)).collect()
    }

    pub(super) fn describe(&self, refusal: &Refusal, unit: &Unit, last_good: bool) -> Held {
        let target = self.trial.as_ref().map_or(&self.stable, |trial| &trial.lane).plan.target();
        let before = self.good.as_ref().map(|good| &good.desired.gateway);
        let pointer = unit.pointer(&target.gateway, before);
        let place = target.source_map.locate_words(&pointer, &refusal.message);
        Held {
            type_name: refusal.type_url.short(),
            name: unit.name().to_owned(),
            reason: refusal.message.clone(),
            node: refusal.node.clone(),
            last_good,
            file: place.as_ref().map(|place| place.file.display().to_string()),
            line: place.as_ref().map(|place| place.line),
            column: place.as_ref().map(|place| place.column),
            text: place.map(|place| place.to_string()).unwrap_or_default(),
            since: unix_seconds(SystemTime::now()),
        }
    }

    pub(super) fn tell_held(&self) {
        let held = self.held.values().map(|entry| entry.held.clone()).collect();
        lock(&self.statuses).entry(self.name.clone()).or_default().held = held;
    }
}
