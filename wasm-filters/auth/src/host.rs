//! Envoy's host calls in the shape the filter needs.
//!
//! Bytes only: the string getters of the SDK panic on what is not UTF-8. An error of the host becomes an
//! absence or a failure that the caller refuses on.

use std::time::{Duration, SystemTime};

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, LogLevel, MapType, MetricType};
use tollgate_filter_config::{METADATA_NAMESPACE, METADATA_POLICIES};
use tollgate_filter_core::problem::LocalResponse;
use tollgate_filter_core::signature::{HostFailure, HostVerifier, foreign};

/// Signatures by Envoy's BoringSSL.
pub struct BoringSsl;

impl HostVerifier for BoringSsl {
    fn verify_sha256(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, HostFailure> {
        let arguments = foreign::arguments(key, message, signature);
        let result =
            hostcalls::call_foreign_function(foreign::FUNCTION, Some(&arguments)).map_err(|_| HostFailure)?;
        foreign::result(&result.unwrap_or_default()).ok_or(HostFailure)
    }
}

/// Time since the epoch. `SystemTime::now` would panic on this target.
pub fn now() -> Duration {
    let now = hostcalls::get_current_time().unwrap_or(SystemTime::UNIX_EPOCH);
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The policies of the request's route, as `RoutePolicies` writes them; empty where it has none.
pub fn route_policies() -> Result<Vec<u8>, HostFailure> {
    let path = vec!["xds", "route_metadata", "filter_metadata", METADATA_NAMESPACE, METADATA_POLICIES];
    Ok(hostcalls::get_property(path).map_err(|_| HostFailure)?.unwrap_or_default())
}

/// All request headers.
pub fn request_headers() -> Vec<(String, Vec<u8>)> {
    hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default()
}

/// Removes a request header, every value of it.
pub fn remove_header(name: &str) {
    let _ = hostcalls::remove_map_value(MapType::HttpRequestHeaders, name);
}

/// Replaces a request header, every value of it.
pub fn set_header(name: &str, value: &str) {
    let _ = hostcalls::set_map_value_bytes(MapType::HttpRequestHeaders, name, Some(value.as_bytes()));
}

/// Answers the request.
pub fn respond(response: &LocalResponse) {
    let headers = response.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let _ = hostcalls::send_http_response(u32::from(response.status), headers, Some(&response.body));
}

/// The plugin configuration, `size` bytes.
pub fn configuration(size: usize) -> Vec<u8> {
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size).ok().flatten().unwrap_or_default()
}

/// `:status` and body of the HTTP call that just ended. Both are empty where it ended without a response.
pub fn call_response(num_headers: usize, body_size: usize) -> (Vec<u8>, Vec<u8>) {
    if num_headers == 0 {
        return Default::default();
    }
    let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status").ok().flatten();
    let body = match body_size {
        0 => None,
        size => hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size).ok().flatten(),
    };
    (status.unwrap_or_default(), body.unwrap_or_default())
}

/// Writes to Envoy's log. Never pass anything a client sent.
pub fn log_error(message: &str) {
    let _ = hostcalls::log(LogLevel::Error, message);
}

/// A counter, named once a VM; Envoy adds up those of all workers.
#[derive(Debug, Clone, Copy)]
pub struct Counter(Option<u32>);

impl Counter {
    /// Defines a counter. Envoy shows it as `wasmcustom.<name>`.
    pub fn new(name: &str) -> Self {
        Self(hostcalls::define_metric(MetricType::Counter, name).ok())
    }

    /// Adds one.
    pub fn add(self) {
        if let Some(id) = self.0 {
            let _ = hostcalls::increment_metric(id, 1);
        }
    }
}
