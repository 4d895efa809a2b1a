//! `/v1/sessions`: log in, refresh, end.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::extract::Json;
use super::problem::Problem;
use crate::error::Error;
use crate::secret::Secret;
use crate::sessions::Tokens;

/// What proves an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    #[schema(format = Email)]
    email: String,
    #[schema(value_type = String, format = Password)]
    password: Secret,
}

/// What keeps a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshToken {
    #[schema(value_type = String)]
    refresh_token: Secret,
}

/// Tokens of a session (RFC 6749 section 5.1).
#[derive(Serialize, ToSchema)]
pub struct TokensView {
    /// A JWT for the `authorization` header.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds the access token works.
    expires_in: u64,
    /// Works once; the next one comes with the next tokens.
    refresh_token: String,
}

impl From<Tokens> for TokensView {
    fn from(tokens: Tokens) -> Self {
        Self {
            access_token: tokens.access.expose().to_owned(),
            token_type: "Bearer",
            expires_in: tokens.access_ttl.as_secs(),
            refresh_token: tokens.refresh.expose().to_owned(),
        }
    }
}

/// Log in
#[utoipa::path(
    post, path = "/v1/sessions", tag = "sessions",
    request_body = Credentials,
    responses(
        (status = 201, description = "A session", body = TokensView),
        (status = 401, description = "Wrong e-mail or password"),
    ),
)]
pub async fn log_in(
    State(app): State<Shared>,
    Json(credentials): Json<Credentials>,
) -> Result<(StatusCode, axum::Json<TokensView>), Problem> {
    let session = app.sessions.log_in(&credentials.email, credentials.password).await;
    let outcome = match &session {
        Ok(_) => "accepted",
        Err(Error::WrongCredentials) => "refused",
        Err(_) => "failed",
    };
    app.metrics.log_ins.with_label_values(&[outcome]).inc();
    Ok((StatusCode::CREATED, axum::Json(session?.into())))
}

/// Exchange a refresh token
///
/// A refresh token that is presented a second time ends its session (RFC 9700 section 4.14.2).
#[utoipa::path(
    post, path = "/v1/sessions/refresh", tag = "sessions",
    request_body = RefreshToken,
    responses(
        (status = 200, description = "The next tokens", body = TokensView),
        (status = 401, description = "Not a token that works"),
    ),
)]
pub async fn refresh(
    State(app): State<Shared>,
    Json(token): Json<RefreshToken>,
) -> Result<axum::Json<TokensView>, Problem> {
    Ok(axum::Json(app.sessions.refresh(&token.refresh_token).await?.into()))
}

/// End a session
///
/// Answers the same for tokens that are unknown (RFC 7009 section 2.2).
#[utoipa::path(
    delete, path = "/v1/sessions", tag = "sessions",
    request_body = RefreshToken,
    responses((status = 204, description = "The token does not work, or no longer")),
)]
pub async fn end(State(app): State<Shared>, Json(token): Json<RefreshToken>) -> Result<StatusCode, Problem> {
    app.sessions.end(&token.refresh_token).await?;
    Ok(StatusCode::NO_CONTENT)
}
