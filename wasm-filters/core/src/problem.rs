//! Problem documents (RFC 9457) and the responses that carry them.
//!
//! The words are fixed at compile time or come from the configuration, so nothing a client sent, and no
//! credential, can appear in a response.

use std::time::Duration;

use serde::Serialize;

/// A response that a filter answers with instead of letting the request through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalResponse {
    /// HTTP status.
    pub status: u16,
    /// Header names, lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The problem document.
    pub body: Vec<u8>,
}

/// Members of the document, in the order RFC 9457 section 3.1 lists them.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// Extension member (section 3.2): what a program may branch on, since `type` is `about:blank`.
    code: &'a str,
}

impl LocalResponse {
    /// A problem with status `status`. `code` is stable and for programs, `detail` is for people.
    pub fn problem(status: u16, code: &str, detail: &str) -> Self {
        let document = Document { r#type: "about:blank", title: title(status), status, detail, code };
        Self {
            status,
            headers: vec![
                ("content-type", "application/problem+json".to_owned()),
                ("cache-control", "no-store".to_owned()),
            ],
            // Serializing strings and a number cannot fail; an empty body would still be a valid answer.
            body: serde_json::to_vec(&document).unwrap_or_default(),
        }
    }

    /// 503 for what is not the client's fault and is worth another try after `retry_after`.
    pub fn unavailable(code: &str, detail: &str, retry_after: Duration) -> Self {
        Self::problem(503, code, detail).with_header("retry-after", whole_seconds(retry_after).to_string())
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// Seconds for `Retry-After` (RFC 9110 section 10.2.3): rounded up, and at least one, because a client that
/// comes back at once would only be refused again.
pub fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1)
}

/// RFC 9457 section 4.2.1: with `about:blank`, the title is the status phrase.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

/// A quoted string (RFC 9110 section 5.6.4). Control bytes have no place in one and are left out.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_is_json_whatever_the_detail() {
        let response = LocalResponse::problem(401, "invalid_token", "a \"quote\"\r\nand a line");
        let document: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(document["type"], "about:blank");
        assert_eq!(document["title"], "Unauthorized");
        assert_eq!(document["status"], 401);
        assert_eq!(document["detail"], "a \"quote\"\r\nand a line");
        assert_eq!(document["code"], "invalid_token");
    }

    #[test]
    fn retry_after_is_whole_seconds_and_never_zero() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_nanos(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }

    #[test]
    fn quoted_string_cannot_be_left() {
        assert_eq!(quoted("a\"b\\c\r\n"), r#""a\"b\\c""#);
    }
}
