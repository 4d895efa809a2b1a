//! Around every request: its id, its log line, its metrics, and the last word on what an error looks like.
//!
//! Whatever is inside may return an error status without a body or panic; what leaves is a problem document
//! with the request id, all the same.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use prometheus::IntGauge;
use tracing::Instrument as _;

use super::limits::Port;
use super::problem::{Cause, Problem};
use super::request_id::{REQUEST_ID, RequestId};

/// The outermost layer.
pub async fn answer(State(port): State<Arc<Port>>, request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = method_label(request.method());
    let started = Instant::now();
    let in_flight = InFlight::enter(port.app.metrics.in_flight.with_label_values(&[port.name]));
    let span = tracing::info_span!("request", request_id = %id);
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let response = response.unwrap_or_else(|_| Problem::internal("a handler panicked").into_response());
    drop(in_flight);
    let _entered = span.enter();
    let response = finish(&port, response, &id);
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let (status, elapsed) = (response.status(), started.elapsed().as_secs_f64());
    let metrics = &port.app.metrics;
    metrics.requests.with_label_values(&[port.name, route, method, status.as_str()]).inc();
    metrics.latency.with_label_values(&[port.name, route]).observe(elapsed);
    let (status, milliseconds) = (status.as_u16(), elapsed * 1000.0);
    // Probes, scrapes and the gateway's look-ups would drown the rest.
    if route.starts_with("/v1/") {
        tracing::info!(port = port.name, method, route, status, milliseconds, "answered");
    } else {
        tracing::debug!(port = port.name, method, route, status, milliseconds, "answered");
    }
    response
}

fn finish(port: &Port, mut response: Response, id: &RequestId) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let problem = response.extensions_mut().remove::<Problem>();
        let problem = problem.unwrap_or_else(|| Problem::of_status(status));
        match problem.cause() {
            Some(Cause::Store(cause)) => {
                port.app.metrics.store_errors.inc();
                tracing::error!(cause, "store failed");
            }
            Some(Cause::Internal(cause)) => tracing::error!(cause, "request failed"),
            None => {}
        }
        *response.body_mut() = problem.render(id.as_str());
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    }
    let headers = response.headers_mut();
    if let Some(id) = id.header() {
        headers.insert(REQUEST_ID, id);
    }
    // Tokens and personal data are in most answers; the few that may be kept say so themselves.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Clients can make up methods; metrics cannot have a label for each.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Counts down when dropped, which is also what happens to a request whose client left.
struct InFlight(IntGauge);

impl InFlight {
    fn enter(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
