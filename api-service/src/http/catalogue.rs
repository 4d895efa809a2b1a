//! `/v1/apis`: the catalogue.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::extract::{IdInPath, Json, Query};
use super::identity::Caller;
use super::problem::Problem;
use super::views::{PageParams, PageView, Time};
use crate::catalogue::{Api, Publication};
use crate::page::PageRequest;

/// An API to publish.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApi {
    /// Unique, for machines.
    #[schema(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
    name: String,
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    title: String,
    /// What it does.
    #[serde(default)]
    #[schema(max_length = 2000)]
    description: String,
    /// Where the gateway serves it.
    #[schema(max_length = 200, examples("/petstore/v1"))]
    base_path: String,
}

/// A published API.
#[derive(Serialize, ToSchema)]
pub struct ApiView {
    id: String,
    /// Account that published it.
    owner: String,
    name: String,
    title: String,
    description: String,
    base_path: String,
    published_at: Time,
}

impl From<Api> for ApiView {
    fn from(api: Api) -> Self {
        Self {
            id: api.id.to_string(),
            owner: api.owner.to_string(),
            name: api.name,
            title: api.title,
            description: api.description,
            base_path: api.base_path,
            published_at: Time(api.published_at),
        }
    }
}

/// Publish an API
#[utoipa::path(
    post, path = "/v1/apis", tag = "catalogue",
    security(("access_token" = []), ("api_key" = [])),
    request_body = NewApi,
    responses(
        (status = 201, description = "Published", body = ApiView),
        (status = 409, description = "The name is taken"),
    ),
)]
pub async fn publish(
    State(app): State<Shared>,
    Caller(caller): Caller,
    Json(new): Json<NewApi>,
) -> Result<(StatusCode, axum::Json<ApiView>), Problem> {
    let NewApi { name, title, description, base_path } = &new;
    let api = app.catalogue.publish(caller, Publication { name, title, description, base_path }).await?;
    Ok((StatusCode::CREATED, axum::Json(api.into())))
}

/// All published APIs, oldest first
#[utoipa::path(
    get, path = "/v1/apis", tag = "catalogue",
    params(PageParams),
    responses((status = 200, description = "A page of them", body = PageView<ApiView>)),
)]
pub async fn list(
    State(app): State<Shared>,
    Query(params): Query<PageParams>,
) -> Result<axum::Json<PageView<ApiView>>, Problem> {
    let page = PageRequest::parse(params.after.as_deref(), params.limit)?;
    Ok(axum::Json(PageView::of(app.catalogue.list(&page).await?, ApiView::from)))
}

/// One API
#[utoipa::path(
    get, path = "/v1/apis/{id}", tag = "catalogue",
    params(("id" = String, Path, description = "Id of the API")),
    responses(
        (status = 200, description = "It", body = ApiView),
        (status = 404, description = "No such API"),
    ),
)]
pub async fn api(State(app): State<Shared>, id: IdInPath) -> Result<axum::Json<ApiView>, Problem> {
    Ok(axum::Json(app.catalogue.api(id.parse("api")?).await?.into()))
}

/// Take an API out of the catalogue
#[utoipa::path(
    delete, path = "/v1/apis/{id}", tag = "catalogue",
    security(("access_token" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "Id of the API")),
    responses(
        (status = 204, description = "Removed"),
        (status = 403, description = "Not the caller's"),
        (status = 404, description = "No such API"),
    ),
)]
pub async fn remove(
    State(app): State<Shared>,
    Caller(caller): Caller,
    id: IdInPath,
) -> Result<StatusCode, Problem> {
    app.catalogue.remove(caller, id.parse("api")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
