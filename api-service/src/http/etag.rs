//! Entity tags (RFC 9110 section 8.8.3), for what is fetched again and again.

use axum::http::{HeaderMap, header};

use crate::secret::Secret;

/// The tag of a body.
pub fn of(body: &str) -> String {
    format!("\"{}\"", Secret::new(body).sha256())
}

/// A tag for all bodies that say the same, by the name of what they say.
pub fn weak(name: &str) -> String {
    format!("W/{}", of(name))
}

/// Whether the client says that it has this one: RFC 9110 section 13.1.2, by weak comparison.
pub fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || opaque(tag) == opaque(etag))
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}
