//! Host calls in the shapes that the filters need. An error of the host becomes an absence, or a failure that the
//! caller refuses on.

use std::time::Duration;

use tollgate_filter_abi::{self as abi, HttpCall, Map, Status};
use tollgate_filter_core::api_key::Answer;
use tollgate_filter_core::auth::{Allowed, Pending};
use tollgate_filter_core::headers::HeaderMap;
use tollgate_filter_core::problem::LocalResponse;
use tollgate_filter_core::rate_limit::Quota;
use tollgate_filter_core::signature::HostFailure;
#[cfg(not(target_family = "wasm"))]
pub use tollgate_filter_core::signature::Native as Signatures;
#[cfg(target_family = "wasm")]
use tollgate_filter_core::signature::{Hash, HostVerifier, foreign};

/// Longest introspection answer that is read.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Signatures by Envoy's BoringSSL.
#[cfg(target_family = "wasm")]
pub struct Signatures;

#[cfg(target_family = "wasm")]
impl HostVerifier for Signatures {
    fn verify(&self, hash: Hash, key: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, HostFailure> {
        let arguments = foreign::arguments(hash, key, message, signature);
        let result = abi::call_foreign_function(foreign::FUNCTION, &arguments).map_err(|_| HostFailure)?;
        foreign::result(&result).ok_or(HostFailure)
    }
}

/// Time since the epoch. `SystemTime::now` would panic on this target.
pub fn now() -> Duration {
    Duration::from_nanos(abi::current_time_nanos())
}

/// The name of the request's route; `None` where it has none, so that the router answers 404.
pub fn route_name() -> Result<Option<Vec<u8>>, HostFailure> {
    match abi::property(b"xds\0route_name") {
        Err(Status::NotFound) => Ok(None),
        read => read.map(Some).map_err(|_| HostFailure),
    }
}

/// Answers the request.
pub fn respond(response: &LocalResponse) {
    let headers = response.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let _ = abi::send_response(response.status.into(), &headers.collect::<Vec<_>>(), &response.body);
}

/// Changes the request's headers, which were `headers`.
pub fn apply(allowed: &Allowed<'_>, headers: &HeaderMap<'_>) {
    for name in &allowed.remove {
        let _ = abi::remove_header(Map::Request, name);
    }
    for (name, value) in allowed.identity.iter().flat_map(|identity| identity.headers()) {
        let Some(value) = value else { continue };
        let (name, value) = (name.as_bytes(), value.as_bytes());
        // To replace what is not there costs twice as much.
        let _ = match headers.iter().any(|(sent, _)| *sent == name) {
            true => abi::replace_header(Map::Request, name, value),
            false => abi::add_header(Map::Request, name, value),
        };
    }
}

/// Tells the client what is left of its quota.
pub fn tell(quota: &Quota) {
    quota.headers(|name, value| {
        let _ = abi::replace_header(Map::Response, name.as_bytes(), value.as_bytes());
    });
}

/// Asks the introspection service; the answer comes with the token.
pub fn ask(pending: &Pending) -> Result<u32, Status> {
    let to = &pending.introspection;
    let headers: [(&[u8], &[u8]); 5] = [
        (b":method", b"POST"),
        (b":path", to.path.as_bytes()),
        (b":authority", to.authority.as_bytes()),
        (b"content-type", b"application/json"),
        (b"accept", b"application/json"),
    ];
    abi::send_http_call(&HttpCall {
        cluster: &to.cluster,
        headers: &headers,
        body: pending.body().as_bytes(),
        timeout: Duration::from_millis(to.timeout_ms),
    })
}

/// The answer of the introspection service that just came; `None` where it is no answer.
pub fn answer(headers: usize, body_size: usize) -> Option<Answer> {
    if headers == 0 {
        return None;
    }
    let status = abi::header(Map::CallResponse, b":status").ok()?;
    let body = match body_size.min(MAX_ANSWER_BYTES) {
        0 => Vec::new(),
        size => abi::http_call_body(size).ok()?,
    };
    Answer::parse(&status, &body)
}
