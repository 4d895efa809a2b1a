//! `/v1/keys`: the caller's API keys.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::extract::{IdInPath, Json, Query};
use super::identity::Caller;
use super::problem::Problem;
use super::views::{PageParams, PageView, Time};
use crate::api_keys::ApiKey;
use crate::page::PageRequest;

/// A key to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// To tell it from the others.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// A key, without the key.
#[derive(Serialize, ToSchema)]
pub struct KeyView {
    id: String,
    name: String,
    created_at: Time,
}

/// A key, this once with the key.
#[derive(Serialize, ToSchema)]
pub struct CreatedKeyView {
    #[serde(flatten)]
    view: KeyView,
    /// The key itself: it is not stored and cannot be shown again.
    #[schema(examples("tg_3xAmpLe"))]
    key: String,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self { id: key.id.to_string(), name: key.name, created_at: Time(key.created_at) }
    }
}

/// Make a key
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys",
    security(("access_token" = []), ("api_key" = [])),
    request_body = NewKey,
    responses(
        (status = 201, description = "The key, this once", body = CreatedKeyView),
        (status = 409, description = "There are too many"),
    ),
)]
pub async fn create(
    State(app): State<Shared>,
    Caller(caller): Caller,
    Json(new): Json<NewKey>,
) -> Result<(StatusCode, axum::Json<CreatedKeyView>), Problem> {
    let (key, secret) = app.keys.create(caller, &new.name).await?;
    let view = CreatedKeyView { view: key.into(), key: secret.expose().to_owned() };
    Ok((StatusCode::CREATED, axum::Json(view)))
}

/// The caller's keys that work
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys",
    security(("access_token" = []), ("api_key" = [])),
    params(PageParams),
    responses((status = 200, description = "A page of them", body = PageView<KeyView>)),
)]
pub async fn list(
    State(app): State<Shared>,
    Caller(caller): Caller,
    Query(params): Query<PageParams>,
) -> Result<axum::Json<PageView<KeyView>>, Problem> {
    let page = PageRequest::parse(params.after.as_deref(), params.limit)?;
    Ok(axum::Json(PageView::of(app.keys.list(caller, &page).await?, KeyView::from)))
}

/// Revoke a key
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys",
    security(("access_token" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "Public id of the key")),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "No such key of the caller's"),
    ),
)]
pub async fn revoke(
    State(app): State<Shared>,
    Caller(caller): Caller,
    id: IdInPath,
) -> Result<StatusCode, Problem> {
    app.keys.revoke(caller, id.parse("key")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
