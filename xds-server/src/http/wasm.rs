//! The filters' modules over HTTP: what Envoys load, so that a proxy on another host needs no file.
//!
//! A module's address holds its SHA-256, so what is there never changes. Nothing is read from disk here.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::source::module::ModuleStore;

/// `GET` and `HEAD` of `/wasm/SHA256/NAME.wasm`.
pub(super) fn router(modules: ModuleStore) -> Router {
    Router::new().route("/wasm/{sha256}/{file}", get(module)).with_state(modules)
}

async fn module(
    State(modules): State<ModuleStore>,
    Path((sha256, file)): Path<(String, String)>,
    request: HeaderMap,
) -> Response {
    let found = file.strip_suffix(".wasm").and_then(|name| modules.get(name, &sha256));
    let Some(bytes) = found else { return (StatusCode::NOT_FOUND, "no such module\n").into_response() };
    let tag = format!("\"{sha256}\"");
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|tags| tags.split(',')).any(|known| known.trim() == tag);
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "application/wasm"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::ETAG, &tag),
    ];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, Body::from(bytes)).into_response(),
    }
}
