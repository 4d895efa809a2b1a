//! What one request, and all of them together, may take.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::App;
use super::problem::Problem;

/// The limits, as set.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Bytes of a body.
    pub body: usize,
    /// For the body to arrive.
    pub body_timeout: Duration,
    /// For the whole request.
    pub request_timeout: Duration,
    /// Requests in progress at once on each port.
    pub requests: usize,
}

/// One listening port as its layers see it.
pub struct Port {
    /// `public` or `internal`.
    pub name: &'static str,
    /// What its handlers reach.
    pub app: Arc<App>,
    at_once: Semaphore,
}

impl Port {
    /// A port with its own count of requests: a flood of clients must not stop introspection.
    pub fn new(name: &'static str, app: Arc<App>) -> Self {
        let at_once = Semaphore::new(app.limits.requests);
        Self { name, app, at_once }
    }
}

/// Refuses at once what is too much, and gives up on what takes too long. Probes are let through: a busy
/// service is not a dead one.
pub async fn limit(State(port): State<Arc<Port>>, request: Request, next: Next) -> Response {
    let is_probe = matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics");
    let permit = port.at_once.try_acquire();
    if permit.is_err() && !is_probe {
        return Problem::unavailable("too many requests are in progress; try again").into_response();
    }
    let answered = tokio::time::timeout(port.app.limits.request_timeout, next.run(request)).await;
    answered.unwrap_or_else(|_| Problem::unavailable("the request took too long").into_response())
}
