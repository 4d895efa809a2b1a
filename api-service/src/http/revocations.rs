//! What gateways are to refuse at once: polled by them, so most answers are 304, for which no list is read.

use std::fmt::Display;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::{Shared, etag};
use crate::error::Error;
use crate::revocations::{Revocation, Revocations};

/// What is revoked.
#[derive(Serialize, ToSchema)]
pub struct RevocationsView {
    /// Keys, by their public id.
    api_keys: Vec<RevocationView>,
    /// Sessions, by the `sid` of their access tokens.
    sessions: Vec<RevocationView>,
}

/// One revocation.
#[derive(Serialize, ToSchema)]
pub struct RevocationView {
    id: String,
    /// When it may be forgotten, in seconds since 1970: nothing accepts what it names any more.
    until: i64,
}

impl<I: Display> From<Revocation<I>> for RevocationView {
    fn from(revocation: Revocation<I>) -> Self {
        Self { id: revocation.id.to_string(), until: revocation.until.unix_timestamp() }
    }
}

/// Revoked keys and ended sessions
///
/// To be polled with `if-none-match`. A revocation is final: what was on the list is refused until its time, also by a
/// gateway that does not see it there any more.
#[utoipa::path(
    get, path = "/revocations", tag = "gateway",
    responses(
        (status = 200, description = "The whole list", body = RevocationsView),
        (status = 304, description = "It is what `if-none-match` says"),
    ),
)]
pub async fn revocations(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    let etag = etag::weak(&app.revocations.version().await?);
    let validators = [(header::ETAG, etag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    if etag::is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, validators).into_response());
    }
    let Revocations { keys, sessions } = app.revocations.current().await?;
    let view = RevocationsView {
        api_keys: keys.into_iter().map(RevocationView::from).collect(),
        sessions: sessions.into_iter().map(RevocationView::from).collect(),
    };
    let body = serde_json::to_string(&view).map_err(Error::internal)?;
    Ok((validators, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}
