//! What the quota service counts.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};

/// Counters; clones count the same.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Requests, by result: ok, over_limit, unavailable, refused.
    pub requests: IntCounterVec,
    /// Tokens that were granted.
    pub granted: IntCounter,
    /// Tokens that came back unused.
    pub returned: IntCounter,
    /// Descriptors that got no token.
    pub denials: IntCounter,
    /// Descriptors that no limit is known for.
    pub unknown: IntCounter,
    /// Batches that the store failed.
    pub store_errors: IntCounter,
    store_seconds: Histogram,
}

impl Counters {
    /// All at zero.
    ///
    /// # Errors
    /// When a name is bad, which a test would show.
    pub fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "tollgate_quota_requests_total",
                    "Requests to the quota service, by result (ok, over_limit, unavailable, refused)",
                ),
                &["result"],
            )?,
            granted: IntCounter::new("tollgate_quota_granted_tokens_total", "Tokens granted")?,
            returned: IntCounter::new(
                "tollgate_quota_returned_tokens_total",
                "Tokens that came back unused",
            )?,
            denials: IntCounter::new("tollgate_quota_denials_total", "Descriptors that got no token")?,
            unknown: IntCounter::new(
                "tollgate_quota_unknown_total",
                "Descriptors that no global policy is known for",
            )?,
            store_errors: IntCounter::new(
                "tollgate_quota_store_errors_total",
                "Batches that the store (memory or Redis) failed",
            )?,
            store_seconds: Histogram::with_opts(
                HistogramOpts::new("tollgate_quota_store_seconds", "Time of one batch in the store").buckets(
                    vec![0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0],
                ),
            )?,
        })
    }

    /// The store took this long.
    pub fn stored(&self, took: Duration) {
        self.store_seconds.observe(took.as_secs_f64());
    }

    /// For the registry.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.requests.clone()),
            Box::new(self.granted.clone()),
            Box::new(self.returned.clone()),
            Box::new(self.denials.clone()),
            Box::new(self.unknown.clone()),
            Box::new(self.store_errors.clone()),
            Box::new(self.store_seconds.clone()),
        ]
    }
}
