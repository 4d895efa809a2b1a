//! Reading requests: as axum does it, but every refusal is a [`Problem`].

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::Shared;
use super::limits::RequestLimits;
use super::problem::Problem;

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::not_json());
        }
        parse(&read(request, &app.limits).await?).map(Self)
    }
}

/// `application/json` or `…+json`, with any parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(request: Request, limits: &RequestLimits) -> Result<Bytes, Problem> {
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared =
        declared.and_then(|value| value.to_str().ok()).and_then(|value| value.parse::<usize>().ok());
    // What says that it is too large is refused without reading it.
    if declared.is_some_and(|length| length > limits.body) {
        return Err(Problem::too_large(limits.body));
    }
    let body = Limited::new(request.into_body(), limits.body).collect();
    match tokio::time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large(limits.body)),
        Ok(Err(_)) => Err(Problem::malformed("the body broke off")),
        Err(_) => Err(Problem::slow_body()),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.is_data() {
            // `.` is how the root is written.
            Problem::invalid("", &if path == "." { error.to_string() } else { format!("{path}: {error}") })
        } else {
            Problem::malformed(format!("the body is not JSON: {error}"))
        }
    })?;
    deserializer.end().map_err(|error| Problem::malformed(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// Query parameters.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, app).await;
        let refused = |error: QueryRejection| Problem::malformed(error.body_text());
        query.map(|axum::extract::Query(query)| Self(query)).map_err(refused)
    }
}

/// The id in the path, as text. What is no id leads to nothing, so handlers answer 404.
pub struct IdInPath(String);

impl IdInPath {
    /// The id.
    pub fn parse<T: std::str::FromStr>(&self, thing: &str) -> Result<T, Problem> {
        self.0.parse().map_err(|_| Problem::not_found(thing))
    }
}

impl FromRequestParts<Shared> for IdInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, app).await;
        path.map(|axum::extract::Path(id)| Self(id)).map_err(|_| Problem::no_route())
    }
}
