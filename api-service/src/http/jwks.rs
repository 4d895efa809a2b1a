//! The public keys that verify access tokens.

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::{Shared, etag};
use crate::sessions::signing::JwkSet;

/// How long the set may be kept. A new key is to be published this long before it signs.
const CACHE_CONTROL: &str = "public, max-age=300";

/// The set as served; it does not change while the process lives.
pub struct Jwks {
    body: Bytes,
    etag: String,
}

impl Jwks {
    /// Writes it once.
    pub fn render(set: &JwkSet) -> anyhow::Result<Self> {
        let body = serde_json::to_string(set).context("cannot write the key set")?;
        let etag = etag::of(&body);
        Ok(Self { body: body.into(), etag })
    }
}

/// Public keys of access tokens (RFC 7517)
#[utoipa::path(
    get, path = "/jwks.json", tag = "service",
    responses(
        (status = 200, description = "The key set", content_type = "application/jwk-set+json"),
        (status = 304, description = "It is what `if-none-match` says"),
    ),
)]
pub async fn jwks(State(app): State<Shared>, headers: HeaderMap) -> Response {
    let Jwks { body, etag } = &app.jwks;
    let validators = [(header::ETAG, etag.as_str()), (header::CACHE_CONTROL, CACHE_CONTROL)];
    if etag::is_known(&headers, etag) {
        return (StatusCode::NOT_MODIFIED, validators).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, "application/jwk-set+json")];
    (validators, content_type, body.clone()).into_response()
}
