//! What the service counts about itself, in Prometheus' text format.
//!
//! Every label has a bounded set of values: routes are the patterns of the router, never paths.

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// All metrics, registered.
pub struct Metrics {
    registry: Registry,
    /// Answered requests by port, route, method and status.
    pub requests: IntCounterVec,
    /// Seconds from the headers of the request to the headers of the answer, by port and route.
    pub latency: HistogramVec,
    /// Requests in progress, by port.
    pub in_flight: IntGaugeVec,
    /// Log-ins by outcome: `accepted`, `refused`, `failed`.
    pub log_ins: IntCounterVec,
    /// Passwords hashed.
    pub password_hashes: IntCounter,
    /// Requests that failed because a store did.
    pub store_errors: IntCounter,
    /// 1 while requests are wanted, 0 while draining.
    pub ready: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// A name is registered twice.
    pub fn new() -> prometheus::Result<Self> {
        // Answers take well under a millisecond, log-ins tens of them.
        let buckets =
            vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let latency =
            HistogramOpts::new("tollgate_api_http_request_duration_seconds", "Time to answer a request")
                .buckets(buckets);
        let metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new("tollgate_api_http_requests_total", "Requests answered"),
                &["port", "route", "method", "status"],
            )?,
            latency: HistogramVec::new(latency, &["port", "route"])?,
            in_flight: IntGaugeVec::new(
                Opts::new("tollgate_api_http_requests_in_flight", "Requests in progress"),
                &["port"],
            )?,
            log_ins: IntCounterVec::new(
                Opts::new("tollgate_api_log_ins_total", "Log-ins by outcome"),
                &["outcome"],
            )?,
            password_hashes: IntCounter::new("tollgate_api_password_hashes_total", "Passwords hashed")?,
            store_errors: IntCounter::new("tollgate_api_store_errors_total", "Requests failed by a store")?,
            ready: IntGauge::new("tollgate_api_ready", "1 while requests are wanted, 0 while draining")?,
        };
        metrics.registry.register(Box::new(metrics.requests.clone()))?;
        metrics.registry.register(Box::new(metrics.latency.clone()))?;
        metrics.registry.register(Box::new(metrics.in_flight.clone()))?;
        metrics.registry.register(Box::new(metrics.log_ins.clone()))?;
        metrics.registry.register(Box::new(metrics.password_hashes.clone()))?;
        metrics.registry.register(Box::new(metrics.store_errors.clone()))?;
        metrics.registry.register(Box::new(metrics.ready.clone()))?;
        // A counter that first shows when it is 1 hides its first increase from `rate()`.
        for outcome in ["accepted", "refused", "failed"] {
            metrics.log_ins.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// A metric is inconsistent.
    pub fn render(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
