//! What one plugin configuration makes in one VM: the compiled policies and the counters.
//!
//! The buckets themselves are in `shared`, so that a new configuration goes on counting where the old one
//! was.

use std::time::{Duration, SystemTime};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MetricType};
use tollgate_filter_core::ConfigError;
use tollgate_filter_core::rate_limit::Limiter;

use crate::shared;

/// The filter's configuration, ready to decide.
pub struct Plugin {
    /// Decides.
    pub limiter: Limiter,
    /// Seed of the keys' hash, the same in all workers.
    pub seed: u64,
    /// What was decided.
    pub counters: Counters,
}

/// Counters of the filter.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    /// Requests within their limit.
    pub allowed: Counter,
    /// Requests over their limit.
    pub limited: Counter,
    /// Requests that could not be counted.
    pub unavailable: Counter,
    /// Buckets in use that were forgotten to make room: above zero, limits are no longer exact.
    pub evicted: Counter,
}

thread_local! {
    /// Defined once a VM, as each definition takes memory in the host for good.
    static COUNTERS: Counters = Counters {
        allowed: Counter::new("tollgate.rate_limit.allowed"),
        limited: Counter::new("tollgate.rate_limit.limited"),
        unavailable: Counter::new("tollgate.rate_limit.unavailable"),
        evicted: Counter::new("tollgate.rate_limit.evicted"),
    };
}

impl Plugin {
    /// Reads the plugin configuration, `size` bytes of JSON, and prepares the shared slots.
    pub fn load(size: usize) -> Result<Self, ConfigError> {
        let json = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).ok().flatten();
        let limiter = Limiter::from_json(&json.unwrap_or_default())?;
        let seed = shared::prepare(now().as_nanos() as u64);
        Ok(Self { limiter, seed, counters: COUNTERS.with(|counters| *counters) })
    }
}

/// Time since the epoch. `SystemTime::now` would panic on this target.
pub fn now() -> Duration {
    let now = hostcalls::get_current_time().unwrap_or(SystemTime::UNIX_EPOCH);
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A counter, named once a VM; Envoy adds up those of all workers.
#[derive(Debug, Clone, Copy)]
pub struct Counter(Option<u32>);

impl Counter {
    /// Defines a counter. Envoy shows it as `wasmcustom.<name>`.
    fn new(name: &str) -> Self {
        Self(hostcalls::define_metric(MetricType::Counter, name).ok())
    }

    /// Adds one.
    pub fn add(self) {
        if let Some(id) = self.0 {
            let _ = hostcalls::increment_metric(id, 1);
        }
    }
}
