//! How often a caller may call: the decision of the rate-limit filter.
//!
//! Policies compiled, the tokens of a request's limits taken, the response and its headers. What the host knows
//! (headers, address, shared data) comes through two traits, so that the rules run natively in tests, with several
//! workers at once.

use std::collections::BTreeMap;
use std::time::Duration;

use tollgate_filter_config::{QuotaHeaders, QuotaService, RateLimitConfig, RateLimitPolicy};

use crate::problem::{LocalResponse, whole_seconds};
use crate::slots::Evicted;
use crate::{ConfigError, config_error, lease};

mod counting;
mod fields;
mod global;
mod key;
mod leases;
mod limit;
#[cfg(test)]
mod tests;

use counting::{Counted, Counting, Taken};
pub use fields::Quota;
pub use global::Waiting;
pub use key::KeySource;
use leases::Leases;
use limit::Limit;

/// The rate-limit filter's configuration, compiled.
#[derive(Debug)]
pub struct Limiter {
    policies: BTreeMap<String, Policy>,
    leases: Leases,
    service: Option<QuotaService>,
}

/// One policy.
#[derive(Debug)]
struct Policy {
    limits: Vec<Limit>,
    headers: QuotaHeaders,
}

/// The slots that all workers share.
pub trait SharedSlots {
    /// The bytes of a slot and their version, for [`Self::write`]. A slot that was never written is empty.
    fn read(&self, slot: usize) -> Result<(Vec<u8>, Option<u32>), HostFailure>;
    /// Writes a slot if its version is still `version`; `false` if another worker was faster.
    fn write(&self, slot: usize, bytes: &[u8], version: Option<u32>) -> Result<bool, HostFailure>;
}

/// The host could not read or write a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host could not reach its shared data")]
pub struct HostFailure;

/// What happens to a request under a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Allow(Allowed),
    /// It is over the limit.
    Limit(LocalResponse),
    /// It cannot be counted, so it does not pass.
    Unavailable(LocalResponse),
    /// It waits for tokens, until a call to the quota service has ended; see [`Limiter::decide_again`].
    Wait(Waiting<'static>),
}

/// How a request goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// What its response tells, if it does.
    pub quota: Option<Quota>,
    /// A bucket that was not full went to make room: its key may send a burst early.
    pub evicted: bool,
    /// A limit that only counts would have refused it.
    pub shadowed: bool,
}

impl Limiter {
    /// Reads and checks a plugin configuration.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        Self::new(&config_error::parse(json)?)
    }

    /// Checks a configuration.
    pub fn new(config: &RateLimitConfig) -> Result<Self, ConfigError> {
        let policies = config
            .policies
            .iter()
            .map(|(name, policy)| Ok((name.clone(), Policy::new(name, policy)?)))
            .collect::<Result<_, ConfigError>>()?;
        Ok(Self { policies, leases: Leases::new(), service: config.quota.clone() })
    }

    /// Who is asked for the tokens of shared limits.
    pub fn quota_service(&self) -> Option<&QuotaService> {
        self.service.as_ref()
    }

    /// Decides on a request on a route with `policy`. `seed` must be the same in all workers; `leases` are needed where
    /// a limit is shared.
    pub fn decide(
        &self,
        policy: &str,
        request: &dyn KeySource,
        slots: &dyn SharedSlots,
        seed: u64,
        now: Duration,
        leases: Option<&mut lease::Leases>,
    ) -> Decision {
        let counting = Counting::new(slots, &self.leases, leases, seed, now);
        self.decide_with(Waiting::first(policy), Some(request), counting)
    }

    /// Decides again on a request that waited, after a call has ended.
    pub fn decide_again(
        &self,
        waiting: Waiting<'static>,
        slots: &dyn SharedSlots,
        seed: u64,
        now: Duration,
        leases: &mut lease::Leases,
    ) -> Decision {
        self.decide_with(waiting, None, Counting::new(slots, &self.leases, Some(leases), seed, now))
    }

    /// Goes through all limits: one that refuses decides at once; one that waits has the others ask, too, and all give
    /// back until then.
    fn decide_with(
        &self,
        mut waiting: Waiting<'_>,
        request: Option<&dyn KeySource>,
        mut counting: Counting<'_>,
    ) -> Decision {
        let Some(policy) = self.policies.get(&*waiting.policy) else {
            let detail = "the route's rate limit policy is not known here yet";
            return unavailable("unknown_policy", detail);
        };
        let mut allowed = Allowed::default();
        let mut quota = Quota::default();
        let (mut taken, mut waits, mut asks) = (Vec::new(), false, false);
        for (index, limit) in policy.limits.iter().enumerate() {
            if let (Some(request), None) = (request, waiting.keys.get(index)) {
                waiting.keys.push(limit.key(request));
            }
            // Whoever waited has the keys of all.
            let Some(key) = waiting.keys.get(index) else { continue };
            let (outcome, place) = match counting.count(limit, key, &waiting) {
                Counted::Here(outcome, evicted, place) => {
                    allowed.evicted |= evicted == Evicted::Bucket;
                    (outcome, Some(place))
                }
                Counted::Leased(outcome) => (outcome, None),
                // What only counts neither refuses nor holds up.
                Counted::Wait { .. } | Counted::Nobody if limit.shadow => continue,
                Counted::Wait { asks: anew } => {
                    waits = true;
                    asks |= anew;
                    continue;
                }
                Counted::Nobody => {
                    counting.give_back(&waiting.keys, &taken);
                    return unavailable("counter_unavailable", "the request cannot be counted now");
                }
            };
            if outcome.allowed {
                taken.push(Taken { index, limit, place });
            }
            if limit.shadow {
                allowed.shadowed |= !outcome.allowed;
                continue;
            }
            quota.push(&limit.rate_of(key).fields, &outcome);
            if !outcome.allowed {
                counting.give_back(&waiting.keys, &taken);
                return Decision::Limit(limited(&quota, outcome.retry_after));
            }
        }
        if waits {
            counting.give_back(&waiting.keys, &taken);
            return Decision::Wait(waiting.again(asks));
        }
        allowed.quota = Some(quota).filter(|_| policy.headers == QuotaHeaders::Always);
        Decision::Allow(allowed)
    }
}

impl Policy {
    fn new(name: &str, config: &RateLimitPolicy) -> Result<Self, ConfigError> {
        if config.limits.is_empty() {
            return Err(ConfigError::new(format!("policies.{name}.limits"), "names no limit"));
        }
        let limits = config.limits.iter().enumerate();
        let limits =
            limits.map(|(index, limit)| Limit::new(limit, &format!("policies.{name}.limits[{index}]")));
        Ok(Self { limits: limits.collect::<Result<_, _>>()?, headers: config.headers })
    }
}

fn limited(quota: &Quota, retry_after: Duration) -> LocalResponse {
    let mut response = LocalResponse::problem(
        429,
        "rate_limited",
        "too many requests; try again after the time in Retry-After",
    )
    .with_header("retry-after", whole_seconds(retry_after).to_string());
    quota.headers(|name, value| response.headers.push((name, value.to_owned())));
    response
}

fn unavailable(code: &str, detail: &str) -> Decision {
    Decision::Unavailable(LocalResponse::unavailable(code, detail, Duration::from_secs(1)))
}
