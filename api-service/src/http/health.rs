//! Probes and metrics.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Shared;
use super::problem::Problem;
use crate::error::Error;

/// Whether the process lives
#[utoipa::path(
    get, path = "/healthz", tag = "service",
    responses((status = 200, description = "It does", body = String)),
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether it wants requests: not while draining, nor while its store does not answer
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "It does", body = String),
        (status = 503, description = "It does not"),
    ),
)]
pub async fn readyz(State(app): State<Shared>) -> Result<&'static str, Problem> {
    if app.metrics.ready.get() == 0 {
        return Err(Problem::unavailable("the service is draining"));
    }
    app.health.check().await.map_err(Error::from)?;
    Ok("ready\n")
}

/// Prometheus metrics
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses((status = 200, description = "Text format 0.0.4", body = String)),
)]
pub async fn metrics(State(app): State<Shared>) -> Result<impl IntoResponse, Problem> {
    let text = app.metrics.render().map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
