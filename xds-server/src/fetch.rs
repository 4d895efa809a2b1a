//! Reads a text over HTTP within bounds. The caller's client bounds the time.
//!
//! What an answer says of its own freshness (RFC 9111) is read here; what is made of it is the caller's.

use std::time::Duration;

use reqwest::header::{AGE, CACHE_CONTROL, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use reqwest::{RequestBuilder, Response, StatusCode};

/// What is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The text; `None` where it is still the one of the entity tag that was sent.
    pub text: Option<String>,
    /// Its entity tag (RFC 9110 section 8.8.3).
    pub etag: Option<HeaderValue>,
    /// For how long the issuer says that it is fresh, from now on (RFC 9111 section 4.2).
    pub fresh_for: Option<Duration>,
}

/// The body of a request's answer.
///
/// # Errors
/// When there is no answer, its status is not 200, or its body is no UTF-8 or longer than `max` bytes. In the words of all
/// causes, and without the URL: it may hold credentials, and the caller names it as it likes.
pub async fn text(request: RequestBuilder, max: usize) -> Result<String, String> {
    body(request.send().await.map_err(describe)?, max).await
}

/// The same, unless it is what it was when it had this entity tag: then no body travels.
///
/// # Errors
/// Those of [`text`].
pub async fn if_changed(
    request: RequestBuilder,
    etag: Option<&HeaderValue>,
    max: usize,
) -> Result<Fetched, String> {
    let request = match etag {
        Some(etag) => request.header(IF_NONE_MATCH, etag),
        None => request,
    };
    let response = request.send().await.map_err(describe)?;
    let headers = response.headers();
    let (new_etag, fresh_for) = (headers.get(ETAG).cloned(), fresh_for(headers));
    if etag.is_some() && response.status() == StatusCode::NOT_MODIFIED {
        return Ok(Fetched { text: None, etag: new_etag.or_else(|| etag.cloned()), fresh_for });
    }
    Ok(Fetched { text: Some(body(response, max).await?), etag: new_etag, fresh_for })
}

async fn body(mut response: Response, max: usize) -> Result<String, String> {
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(describe)? {
        if body.len() + chunk.len() > max {
            return Err(format!("more than {max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| "not UTF-8 text".into())
}

/// `max-age` less the time the answer spent in caches; none where it may not be reused as it is.
fn fresh_for(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    let directives =
        fields.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase());
    let mut max_age = None;
    for directive in directives {
        match directive.split_once('=') {
            Some(("max-age", seconds)) => max_age = seconds.trim_matches('"').parse::<u64>().ok().or(max_age),
            None if matches!(directive.as_str(), "no-cache" | "no-store") => return Some(Duration::ZERO),
            _ => {}
        }
    }
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(Duration::from_secs(max_age?.saturating_sub(age)))
}

fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_what_the_issuer_and_the_caches_before_us_say() {
        for (control, age, seconds) in [
            (&["max-age=300"][..], None, Some(300)),
            (&["public, MAX-AGE=\"300\", must-revalidate"], None, Some(300)),
            (&["public", "max-age=300"], Some("100"), Some(200)),
            (&["max-age=300"], Some("400"), Some(0)),
            (&["max-age=300, no-cache"], None, Some(0)),
            (&["no-store"], None, Some(0)),
            (&["s-maxage=300"], None, None),
            (&["max-age=soon"], None, None),
            (&["max-age"], None, None),
            (&[], Some("100"), None),
        ] {
            let mut headers = HeaderMap::new();
            for value in control {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            if let Some(age) = age {
                headers.insert(AGE, HeaderValue::from_static(age));
            }
            assert_eq!(fresh_for(&headers), seconds.map(Duration::from_secs), "{control:?} {age:?}");
        }
    }
}
