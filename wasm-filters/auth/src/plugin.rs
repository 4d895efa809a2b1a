//! What one plugin configuration makes in one VM: the compiled policies and the counters.
//!
//! Shared by the requests of one worker, never across workers.

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;
use std::time::Duration;
use tollgate_filter_core::ConfigError;
use tollgate_filter_core::auth::{Authenticator, Pending};

use crate::host::{self, Counter};

/// The filter's configuration, ready to decide.
pub struct Plugin {
    /// Decides.
    pub authenticator: Authenticator,
    /// What was decided.
    pub counters: Counters,
}

/// Counters of the filter.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    /// Requests that a policy let through.
    pub allowed: Counter,
    /// Requests answered with 4xx.
    pub denied: Counter,
    /// Requests answered with 503: it could not be said who calls.
    pub unavailable: Counter,
    /// Credentials that were known from an earlier request.
    pub cache_hits: Counter,
    /// Calls to an introspection service.
    pub introspections: Counter,
}

thread_local! {
    /// Defined once a VM, as each definition takes memory in the host for good.
    static COUNTERS: Counters = Counters {
        allowed: Counter::new("tollgate.auth.allowed"),
        denied: Counter::new("tollgate.auth.denied"),
        unavailable: Counter::new("tollgate.auth.unavailable"),
        cache_hits: Counter::new("tollgate.auth.cache_hits"),
        introspections: Counter::new("tollgate.auth.introspections"),
    };
}

impl Plugin {
    /// Reads the plugin configuration, `size` bytes of JSON.
    pub fn load(size: usize) -> Result<Self, ConfigError> {
        // Hash seeds are constant on this target; the nanosecond of the configuration is not.
        let seed = host::now().as_nanos() as u64;
        let authenticator = Authenticator::from_json(&host::configuration(size), seed)?;
        Ok(Self { authenticator, counters: COUNTERS.with(|counters| *counters) })
    }
}

/// Asks the introspection service; the answer comes to the request's context.
pub fn ask(pending: &Pending) -> Result<(), Status> {
    let to = &pending.introspection;
    let headers = vec![
        (":method", "POST"),
        (":path", to.path.as_str()),
        (":authority", to.authority.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json"),
    ];
    let timeout = Duration::from_millis(to.timeout_ms);
    hostcalls::dispatch_http_call(&to.cluster, headers, Some(pending.body().as_bytes()), vec![], timeout)
        .map(drop)
}
