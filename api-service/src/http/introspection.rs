//! Whether an API key works: asked by the gateway, by digest.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::extract::Json;
use super::problem::Problem;
use crate::secret::{NotSha256, Sha256Hex};

/// Which key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// SHA-256 of the key, 64 lower-case hexadecimal digits.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    key_sha256: String,
}

/// Whose it is (after RFC 7662 section 2.2): the other fields are there only for an active key.
#[derive(Serialize, ToSchema)]
pub struct IntrospectionAnswer {
    /// Whether the key works.
    active: bool,
    /// Account that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<String>,
    /// Its public id.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
}

/// Look a key up by digest
#[utoipa::path(
    post, path = "/internal/v1/introspect", tag = "gateway",
    request_body = Introspection,
    responses((status = 200, description = "Known or not", body = IntrospectionAnswer)),
)]
pub async fn introspect(
    State(app): State<Shared>,
    Json(asked): Json<Introspection>,
) -> Result<axum::Json<IntrospectionAnswer>, Problem> {
    let digest: Sha256Hex = asked
        .key_sha256
        .parse()
        .map_err(|error: NotSha256| Problem::invalid("key_sha256", &error.to_string()))?;
    let key = app.keys.introspect(&digest).await?;
    let (consumer, key_id) = key.map(|key| (key.owner.to_string(), key.id.to_string())).unzip();
    Ok(axum::Json(IntrospectionAnswer { active: key_id.is_some(), consumer, key_id }))
}
