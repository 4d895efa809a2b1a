//! The OpenAPI document, finished with what holds for every operation.

use anyhow::Context as _;
use axum::Extension;
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Info, OpenApi, Ref, RefOr, ResponseBuilder};

/// What the document says before there are routes.
pub fn head(port: &str) -> OpenApi {
    let mut info = Info::new(format!("Tollgate API ({port} port)"), env!("CARGO_PKG_VERSION").to_owned());
    info.description = Some(
        "Accounts, API keys, an API catalogue and daily statistics. Errors are problem documents (RFC 9457)."
            .into(),
    );
    OpenApi::new(info, utoipa::openapi::Paths::new())
}

/// The document as served.
#[derive(Clone)]
pub struct Document(Bytes);

impl Document {
    /// Adds the problem response to each operation, and the ways to authenticate.
    pub fn finish(mut document: OpenApi) -> anyhow::Result<Self> {
        for item in document.paths.paths.values_mut() {
            let operations =
                [&mut item.get, &mut item.post, &mut item.delete, &mut item.put, &mut item.patch];
            operations.into_iter().flatten().for_each(add_problem);
        }
        let components = document.components.get_or_insert_default();
        components.schemas.insert(
            "ProblemDocument".to_owned(),
            <super::problem::ProblemDocument as utoipa::PartialSchema>::schema(),
        );
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        components.add_security_scheme("access_token", SecurityScheme::Http(bearer));
        let key = ApiKey::Header(ApiKeyValue::new("x-api-key"));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(key));
        let text = document.to_json().context("cannot write the openapi document")?;
        Ok(Self(text.into()))
    }
}

fn add_problem(operation: &mut Operation) {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemDocument"))).build();
    let response =
        ResponseBuilder::new().description("What went wrong").content("application/problem+json", problem);
    operation.responses.responses.insert("default".to_owned(), RefOr::T(response.build()));
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "service",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")),
)]
pub async fn openapi(Extension(Document(document)): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")], document)
}
