//! Whether canaries do well with a change: who they are, and what their requests say. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::discovery::cache::Selector;
use crate::gateway::model::Canary;

/// Canaries that get too few requests are watched this many times as long as usual, at most.
const PATIENCE: u32 = 10;

/// Requests that proxies have finished, by node id, counted from whenever; what counts is how they grow.
pub type Loads = BTreeMap<String, Load>;

/// Requests that one proxy has finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Load {
    /// All of them.
    pub requests: u64,
    /// Those that failed: 5xx, or no answer.
    pub errors: u64,
}

/// What is to be done with a change that is on trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// Everybody may have it, because.
    Promote(String),
    /// Nobody may have it, because.
    RollBack(String),
}

/// Chooses the canaries among a group's proxies.
pub fn selector(canary: &Canary) -> Selector {
    let (labels, share) = (canary.labels.clone(), canary.share);
    Arc::new(move |proxy| match share {
        // The same proxies on every replica, and each time.
        Some(percent) => xxh3_64(proxy.id.as_bytes()) % 100 < u64::from(percent),
        None => labels.iter().all(|(name, value)| proxy.labels.get(name) == Some(value)),
    })
}

/// What was finished in between. A proxy that counts less than before has started anew.
pub fn growth(before: &Loads, now: &Loads) -> Load {
    let mut sum = Load::default();
    for (node, now) in now {
        let before = before.get(node).filter(|before| before.requests <= now.requests);
        let before = before.copied().unwrap_or_default();
        sum.requests += now.requests - before.requests;
        sum.errors += now.errors.saturating_sub(before.errors);
    }
    sum
}

/// Judges canaries that all have had the change for `watched`.
pub fn judge(canary: &Canary, watched: Duration, load: Load) -> Verdict {
    let Load { requests, errors } = load;
    let enough = requests >= u64::from(canary.min_requests.max(1));
    let words = format!("{errors} of {requests} requests failed");
    if enough && errors * 100 > requests * u64::from(canary.max_error_percent) {
        return Verdict::RollBack(format!("{words}, more than {} %", canary.max_error_percent));
    }
    let observe = canary.observe.get();
    match watched >= observe {
        false => Verdict::Wait,
        true if requests >= u64::from(canary.min_requests) => Verdict::Promote(words),
        true if watched < observe * PATIENCE => Verdict::Wait,
        true => Verdict::RollBack(format!(
            "only {requests} requests in {} s, and {} are needed to judge",
            watched.as_secs(),
            canary.min_requests
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::registry::Proxy;

    fn canary(min_requests: u32) -> Canary {
        Canary {
            labels: BTreeMap::from([("stage".into(), "canary".into())]),
            share: None,
            observe: crate::gateway::scalar::Duration::from_millis(10_000),
            max_error_percent: 5,
            min_requests,
        }
    }

    fn after(seconds: u64, requests: u64, errors: u64, min_requests: u32) -> Verdict {
        judge(&canary(min_requests), Duration::from_secs(seconds), Load { requests, errors })
    }

    #[test]
    fn errors_roll_back_at_once_and_calm_promotes_at_the_end() {
        assert_eq!(after(1, 100, 5, 0), Verdict::Wait);
        assert!(matches!(after(1, 100, 6, 0), Verdict::RollBack(why) if why.contains("6 of 100")));
        assert!(matches!(after(10, 100, 5, 0), Verdict::Promote(_)));
        assert!(matches!(after(10, 0, 0, 0), Verdict::Promote(_)));
    }

    #[test]
    fn too_few_requests_judge_nothing_and_are_waited_for_within_bounds() {
        assert_eq!(after(1, 9, 9, 10), Verdict::Wait);
        assert_eq!(after(99, 9, 0, 10), Verdict::Wait);
        assert!(matches!(after(99, 10, 0, 10), Verdict::Promote(_)));
        assert!(matches!(after(100, 9, 0, 10), Verdict::RollBack(why) if why.contains("only 9")));
    }

    #[test]
    fn only_growth_counts_and_a_restart_begins_anew() {
        let loads = |pairs: &[(&str, u64, u64)]| -> Loads {
            pairs
                .iter()
                .map(|(id, requests, errors)| {
                    ((*id).to_owned(), Load { requests: *requests, errors: *errors })
                })
                .collect()
        };
        let before = loads(&[("a", 100, 10), ("b", 50, 1), ("gone", 5, 5)]);
        let now = loads(&[("a", 110, 11), ("b", 3, 1), ("new", 2, 2)]);
        assert_eq!(growth(&before, &now), Load { requests: 15, errors: 4 });
    }

    #[test]
    fn canaries_are_chosen_by_label_or_by_share() {
        let mut proxy = Proxy::clone(&Proxy::named("edge-1", "edge"));
        let by_label = selector(&canary(0));
        assert!(!by_label(&proxy));
        proxy.labels.insert("stage".into(), "canary".into());
        assert!(by_label(&proxy));
        let by_share = selector(&Canary { share: Some(20), ..canary(0) });
        let chosen = (0..1000).filter(|n| by_share(&Proxy::named(&format!("edge-{n}"), "edge"))).count();
        assert!((150..250).contains(&chosen), "{chosen}");
    }
}
