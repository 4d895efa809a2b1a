//! `/v1/accounts` and `/v1/account`.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::extract::Json;
use super::identity::Caller;
use super::problem::Problem;
use super::views::Time;
use crate::accounts::Account;
use crate::secret::Secret;

/// Who registers.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Must not have an account yet.
    #[schema(format = Email, max_length = 254)]
    email: String,
    /// Any characters.
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 128)]
    password: Secret,
    /// What to be called.
    #[schema(max_length = 100)]
    name: Option<String>,
}

/// An account.
#[derive(Serialize, ToSchema)]
pub struct AccountView {
    /// Its id, the `sub` of its tokens.
    id: String,
    /// Normalised.
    email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    registered_at: Time,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            id: account.id.to_string(),
            email: account.email.to_string(),
            name: account.name,
            registered_at: Time(account.registered_at),
        }
    }
}

/// Register
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts",
    request_body = Registration,
    responses(
        (status = 201, description = "Registered", body = AccountView),
        (status = 409, description = "The address has an account"),
    ),
)]
pub async fn register(
    State(app): State<Shared>,
    Json(registration): Json<Registration>,
) -> Result<(StatusCode, axum::Json<AccountView>), Problem> {
    let Registration { email, password, name } = registration;
    let account = app.accounts.register(&email, password, name.as_deref()).await?;
    Ok((StatusCode::CREATED, axum::Json(account.into())))
}

/// The caller's account
#[utoipa::path(
    get, path = "/v1/account", tag = "accounts",
    security(("access_token" = []), ("api_key" = [])),
    responses((status = 200, description = "It", body = AccountView)),
)]
pub async fn account(
    State(app): State<Shared>,
    Caller(caller): Caller,
) -> Result<axum::Json<AccountView>, Problem> {
    Ok(axum::Json(app.accounts.account(caller).await?.into()))
}
