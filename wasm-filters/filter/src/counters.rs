//! What was decided, counted in the VM and handed to Envoy once a second: a host call for each count would cost more
//! than the count.

use std::rc::Rc;
use std::time::Duration;

use tollgate_filter_abi::Counter;
use tollgate_filter_core::parts::{Parts, Route};
use tollgate_filter_core::tally::{self, Decided, Series};

/// How often counts are handed over.
pub const PERIOD: Duration = Duration::from_secs(1);

/// A count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Requests that an auth policy let through.
    AuthAllowed,
    /// Requests that an auth policy answered with 4xx.
    AuthDenied,
    /// Requests answered with 503: it could not be said who calls.
    AuthUnavailable,
    /// Requests that passed though their credential could not be checked, as the policy has it.
    AuthFailedOpen,
    /// Credentials that were known from an earlier request.
    AuthCacheHits,
    /// Calls to an introspection service.
    Introspections,
    /// Requests refused as their credential was revoked.
    Revoked,
    /// Calls that were to tell what was revoked, and failed.
    RevocationFailures,
    /// Requests within their limit.
    LimitAllowed,
    /// Requests over their limit.
    Limited,
    /// Requests that could not be counted.
    LimitUnavailable,
    /// Buckets in use that were forgotten to make room: above zero, limits are no longer exact.
    Evicted,
    /// Requests that a limit in shadow mode would have refused.
    Shadowed,
    /// Calls to the quota service.
    QuotaCalls,
    /// Calls to the quota service that failed.
    QuotaFailures,
    /// Requests that waited for tokens.
    Waited,
}

const AUTH: [(Count, &str); 8] = [
    (Count::AuthAllowed, "tollgate.auth.allowed"),
    (Count::AuthDenied, "tollgate.auth.denied"),
    (Count::AuthUnavailable, "tollgate.auth.unavailable"),
    (Count::AuthFailedOpen, "tollgate.auth.failed_open"),
    (Count::AuthCacheHits, "tollgate.auth.cache_hits"),
    (Count::Introspections, "tollgate.auth.introspections"),
    (Count::Revoked, "tollgate.auth.revoked"),
    (Count::RevocationFailures, "tollgate.auth.revocation_failures"),
];
const RATE_LIMIT: [(Count, &str); 8] = [
    (Count::LimitAllowed, "tollgate.rate_limit.allowed"),
    (Count::Limited, "tollgate.rate_limit.limited"),
    (Count::LimitUnavailable, "tollgate.rate_limit.unavailable"),
    (Count::Evicted, "tollgate.rate_limit.evicted"),
    (Count::Shadowed, "tollgate.rate_limit.shadowed"),
    (Count::QuotaCalls, "tollgate.rate_limit.quota_calls"),
    (Count::QuotaFailures, "tollgate.rate_limit.quota_failures"),
    (Count::Waited, "tollgate.rate_limit.waited"),
];

/// Every metric and its labels, for a host that has to know them before it counts.
pub fn metrics() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let alone = AUTH.into_iter().chain(RATE_LIMIT).map(|(_, name)| (name, [].as_slice()));
    alone.chain(tally::metrics())
}

/// The counts of one VM.
#[derive(Debug, Default)]
pub struct Counters {
    counts: [(u64, Option<Counter>); AUTH.len() + RATE_LIMIT.len()],
    series: Series<Counter>,
}

impl Counters {
    /// Makes those that `parts` counts known to Envoy: once a VM, as each definition takes memory there for good.
    pub fn define(&mut self, parts: &Parts) {
        let auth = AUTH.into_iter().filter(|_| parts.auth.is_some());
        let rate_limit = RATE_LIMIT.into_iter().filter(|_| parts.limiter.is_some());
        for (count, name) in auth.chain(rate_limit) {
            if let Some((_, counter @ None)) = self.counts.get_mut(count as usize) {
                *counter = Counter::define(name, &[]).ok();
            }
        }
    }

    /// Counts one.
    pub fn add(&mut self, count: Count) {
        self.add_many(count, 1);
    }

    /// Counts a decision on a request of `route`: in all, by policy, and what is over a limit by route.
    pub fn decided(&mut self, route: &Rc<Route>, decided: Decided) {
        self.series.add(route, decided);
        self.add(match decided {
            Decided::AuthAllowed => Count::AuthAllowed,
            Decided::AuthDenied => Count::AuthDenied,
            Decided::AuthUnavailable => Count::AuthUnavailable,
            Decided::Allowed => Count::LimitAllowed,
            Decided::Limited => Count::Limited,
            Decided::Unavailable => Count::LimitUnavailable,
            Decided::Shadowed => Count::Shadowed,
        });
    }

    /// Counts so many.
    pub fn add_many(&mut self, count: Count, many: u64) {
        if let Some((pending, _)) = self.counts.get_mut(count as usize) {
            *pending = pending.saturating_add(many);
        }
    }

    /// Hands over what was counted.
    pub fn flush(&mut self) {
        for (pending, counter) in &mut self.counts {
            if let (1.., Some(counter)) = (*pending, counter) {
                counter.add(std::mem::take(pending));
            }
        }
        self.series.flush(|metric, labels| Counter::define(metric, labels).ok(), Counter::add);
    }
}
