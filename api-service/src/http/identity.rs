//! Who is calling.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use super::Shared;
use super::problem::Problem;
use crate::error::Error;
use crate::id::AccountId;
use crate::secret::Secret;
use crate::settings::IdentityMode;

/// How the gateway says who is calling.
const CONSUMER: HeaderName = HeaderName::from_static("x-consumer-id");

/// The account that makes the request. Whether it still exists is the store's to say.
pub struct Caller(pub AccountId);

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        match app.identity {
            IdentityMode::Gateway => {
                let consumer = only(&parts.headers, &CONSUMER).ok_or_else(Problem::unauthenticated)?;
                // The gateway may know consumers that we do not: keys in its configuration, other issuers.
                consumer.parse().map(Self).map_err(|_| Error::NoAccount.into())
            }
            IdentityMode::Bearer => {
                let credentials = only(&parts.headers, &header::AUTHORIZATION);
                let token = credentials.and_then(bearer).ok_or_else(Problem::unauthenticated)?;
                Ok(Self(app.access_tokens.verify(&Secret::new(token), app.clock.now())?))
            }
        }
    }
}

/// The header's value if it is there once: of two, someone else may have added one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok().filter(|value| !value.is_empty())
}

/// The token of `Bearer …` (RFC 6750 section 2.1); the scheme has no case (RFC 9110 section 11.1).
fn bearer(credentials: &str) -> Option<&str> {
    let (scheme, token) = credentials.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}
