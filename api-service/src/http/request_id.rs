//! Request ids: the caller's own if it is fit for a log, else a new one.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Carries the id in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An id of 1 to 128 characters that need no escaping anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The id of the request with these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let theirs = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let sane = |id: &&str| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
        };
        Self(theirs.filter(sane).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a header.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(value: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        RequestId::of(&headers).to_string()
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        assert_eq!(id_of(b"req-1_2.3:4"), "req-1_2.3:4");
        for odd in [&b""[..], b"a b", b"a\"b", b"\xff", "å".as_bytes(), &[b'a'; 129]] {
            let id = id_of(odd);
            assert!(Uuid::try_parse(&id).is_ok(), "{odd:?} became {id}");
        }
    }
}
