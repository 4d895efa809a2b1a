//! The limits that the service knows: those of the gateway's policies with `scope: global`, by name. Further limits of a
//! policy are `NAME/2` and so on; those of its plans are `NAME:PLAN`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_filter_core::quota::Limit;

use crate::gateway::Gateway;
use crate::gateway::model::Scope;

/// Limits that are remembered after they left the YAML.
const MAX_LIMITS: usize = 10_000;

/// A limit, and how to say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The bucket.
    pub limit: Limit,
    /// Requests that come back each `period`.
    pub requests: u64,
    /// The time they take.
    pub period: Duration,
}

/// All limits by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits(BTreeMap<String, Known>);

impl Known {
    /// So many requests each period, and so many at once. `None` where the arithmetic can't hold it.
    pub fn new(requests: u64, period: Duration, burst: u64) -> Option<Self> {
        Limit::new(requests, period, burst).map(|limit| Self { limit, requests, period })
    }
}

impl Limits {
    /// The limit of that name.
    pub fn get(&self, name: &str) -> Option<&Known> {
        self.0.get(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over what `gateway` says. What it no longer names stays: Envoys that have not moved yet still ask for it.
    pub fn follow(&mut self, gateway: &Gateway) {
        let policies = gateway.policies.rate_limit.iter();
        let limits = policies.flat_map(|(name, policy)| policy.limits(name.as_str()));
        let global = limits.filter(|(_, _, scope)| *scope == Scope::Global);
        let buckets = global.flat_map(|(name, limit, _)| limit.buckets(&name).collect::<Vec<_>>());
        let global = buckets.filter_map(|(name, rate, burst)| {
            Some((name, Known::new(rate.requests, rate.period.get(), burst)?))
        });
        let global: BTreeMap<String, Known> = global.collect();
        let gone = self.0.keys().filter(|name| !global.contains_key(*name)).count();
        if gone.saturating_add(global.len()) > MAX_LIMITS {
            self.0.clear();
        }
        self.0.extend(global);
    }
}

/// Follows the gateway that is served.
pub fn publish(limits: &watch::Sender<Arc<Limits>>, gateway: &Gateway) {
    limits.send_if_modified(|current| {
        let mut next = Limits::clone(current);
        next.follow(gateway);
        let differs = next != **current;
        *current = Arc::new(next);
        differs
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{self, SourceFile};

    fn gateway(policies: &str) -> Gateway {
        let text = format!("version: v1\npolicies:\n  rate_limit:\n{policies}");
        gateway::load(vec![SourceFile { path: "g.yaml".into(), text }]).unwrap().gateway
    }

    #[test]
    fn limits_follow_the_yaml_and_what_left_it_stays_known() {
        let mut limits = Limits::default();
        limits.follow(&gateway("    a: { limit: 5/s, scope: global }\n    b: { limit: 5/s }\n"));
        assert_eq!(limits.len(), 1, "local limits are no business of the service");
        let burst = |limits: &Limits, name: &str| limits.get(name).map(|known| known.limit.burst);
        assert_eq!(burst(&limits, "a"), Some(5));
        limits.follow(&gateway("    a: { limit: 5/s, burst: 9, scope: global }\n"));
        assert_eq!(burst(&limits, "a"), Some(9));
        limits.follow(&gateway("    c: { limit: 5/s, scope: global }\n"));
        assert_eq!((burst(&limits, "a"), burst(&limits, "c")), (Some(9), Some(5)));
    }

    #[test]
    fn each_plan_has_a_limit_of_its_own() {
        let mut limits = Limits::default();
        let plans = "plans: { by: { claim: plan }, limits: { gold: { limit: 50/s, burst: 90 }, tin: { limit: 1/m } } }";
        limits.follow(&gateway(&format!("    a: {{ limit: 5/s, scope: global, {plans} }}\n")));
        assert_eq!(limits.0.keys().collect::<Vec<_>>(), ["a", "a:gold", "a:tin"]);
        assert_eq!(limits.get("a:gold"), Known::new(50, Duration::from_secs(1), 90).as_ref());
        assert_eq!(limits.get("a:tin"), Known::new(1, Duration::from_secs(60), 1).as_ref());
    }

    #[test]
    fn further_limits_are_shared_as_their_policy_is_unless_they_say_otherwise() {
        let mut limits = Limits::default();
        let also = "also: [{ limit: 6/m }, { limit: 7/m, scope: local }]";
        limits.follow(&gateway(&format!("    a: {{ limit: 5/s, scope: global, {also} }}\n")));
        assert_eq!(limits.0.keys().collect::<Vec<_>>(), ["a", "a/2"]);
        let mut limits = Limits::default();
        let also = "also: [{ limit: 6/m }, { limit: 7/m, burst: 8, scope: global }]";
        limits.follow(&gateway(&format!("    b: {{ limit: 5/s, {also} }}\n")));
        assert_eq!(limits.0.keys().collect::<Vec<_>>(), ["b/3"]);
        assert_eq!(limits.get("b/3"), Known::new(7, Duration::from_secs(60), 8).as_ref());
    }
}
