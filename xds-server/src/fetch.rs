//! Reads a text over HTTP within bounds. The caller's client bounds the time.

/// The body of a request's answer.
///
/// # Errors
/// When there is no answer, its status is not 200, or its body is no UTF-8 or longer than `max` bytes. In the words of all
/// causes, and without the URL: it may hold credentials, and the caller names it as it likes.
pub async fn text(request: reqwest::RequestBuilder, max: usize) -> Result<String, String> {
    let mut response = request.send().await.map_err(describe)?;
    if response.status() != reqwest::StatusCode::OK {
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

fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
