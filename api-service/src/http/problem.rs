//! Errors as problem documents (RFC 9457).
//!
//! A [`Problem`] leaves a handler as an empty response that carries it; [`super::answer`] writes the body,
//! because only there the request id is known and the cause of a 5xx is logged. The cause is never sent.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;

/// Problem types are identified, not looked up, by a URL under this one.
const TYPES: &str = "https://tollgate.example/problems/";

/// Something to tell the caller, and what to tell the log.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    field: Option<String>,
    cause: Option<Cause>,
}

/// Why it is our fault: for the log.
#[derive(Debug, Clone)]
pub enum Cause {
    /// A store failed.
    Store(String),
    /// Anything else.
    Internal(String),
}

/// A problem document (RFC 9457 section 3).
#[derive(Serialize, ToSchema)]
pub struct ProblemDocument {
    /// Identifies the kind of problem.
    #[schema(examples("https://tollgate.example/problems/taken"))]
    r#type: String,
    /// Says the kind in words.
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Says what is wrong this time.
    detail: String,
    /// The `x-request-id` of this request: quote it when you ask for help.
    request_id: String,
    /// The field or parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into(), field: None, cause: None }
    }

    /// 404 for a path that leads nowhere.
    pub fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "not found", "nothing is served at this path")
    }

    /// 404 for a thing that is not there.
    pub fn not_found(thing: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "not found", format!("there is no such {thing}"))
    }

    /// 405; the response's `allow` header names the methods.
    pub fn wrong_method() -> Self {
        let detail = "this path does not take this method; see the allow header";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "method not allowed", detail)
    }

    /// 400 for a request that cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "malformed request", detail)
    }

    /// 422 for a request that can be read and breaks a rule.
    pub fn invalid(field: impl Into<String>, rule: &str) -> Self {
        let field = field.into();
        let title = "invalid request";
        let detail = if field.is_empty() { rule.to_owned() } else { format!("{field} {rule}") };
        let field = Some(field).filter(|field| !field.is_empty());
        Self { field, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, detail) }
    }

    /// 413.
    pub fn too_large(most: usize) -> Self {
        let detail = format!("the body must be at most {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "body too large", detail)
    }

    /// 415.
    pub fn not_json() -> Self {
        let detail = "the body must be application/json";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "unsupported media type",
            detail,
        )
    }

    /// 408 for a body that does not arrive.
    pub fn slow_body() -> Self {
        let detail = "the body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "request timeout", detail)
    }

    /// 401 for a caller who does not say who they are.
    pub fn unauthenticated() -> Self {
        let detail = "this needs a valid access token or API key";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "not authenticated", detail)
    }

    /// 503 for what passes by itself.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "temporarily unavailable", detail)
    }

    /// 500 with its cause for the log.
    pub fn internal(cause: impl Into<String>) -> Self {
        let detail = "the service failed; the request id leads to the cause";
        let problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error", detail);
        Self { cause: Some(Cause::Internal(cause.into())), ..problem }
    }

    /// What to say for a response that has an error status and no problem.
    pub fn of_status(status: StatusCode) -> Self {
        let title = status.canonical_reason().unwrap_or("error");
        Self::new(status, "other", title, "the request was refused")
    }

    /// Why it is our fault, if it is.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// The body.
    pub fn render(&self, request_id: &str) -> Body {
        let document = ProblemDocument {
            r#type: format!("{TYPES}{}", self.kind),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            request_id: request_id.to_owned(),
            field: self.field.clone(),
        };
        serde_json::to_vec(&document).map(Body::from).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            // RFC 9110 section 15.5.2 wants a challenge with each 401.
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // The rest of the body is not read, so the connection cannot be used again.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Invalid { field, rule } => Self::invalid(field, &rule),
            Error::WrongCredentials => {
                Self::new(StatusCode::UNAUTHORIZED, "wrong-credentials", "wrong credentials", detail)
            }
            Error::InvalidToken => {
                Self::new(StatusCode::UNAUTHORIZED, "invalid-token", "invalid token", detail)
            }
            Error::NoAccount => Self::new(StatusCode::FORBIDDEN, "no-account", "no account", detail),
            Error::NotOwner => Self::new(StatusCode::FORBIDDEN, "not-owner", "not the owner", detail),
            Error::NotFound(thing) => Self::not_found(thing),
            Error::Taken(_) => Self::new(StatusCode::CONFLICT, "taken", "already taken", detail),
            Error::TooMany(_) => Self::new(StatusCode::CONFLICT, "too-many", "too many", detail),
            Error::Store(cause) => {
                let problem = Self::unavailable("the service cannot reach its data; try again");
                Self { cause: Some(Cause::Store(cause.to_string())), ..problem }
            }
            Error::Internal(cause) => Self::internal(cause.to_string()),
        }
    }
}
