//! Two upstreams for the whole run, which say what reached them.

use std::sync::OnceLock;

use serde_json::Value;
use tollgate_tests::{http_client::Reply, upstream::Upstream};

/// The upstream named `a`.
pub fn a() -> &'static Upstream {
    static A: OnceLock<Upstream> = OnceLock::new();
    A.get_or_init(|| Upstream::start("a").unwrap())
}

/// The upstream named `b`.
pub fn b() -> &'static Upstream {
    static B: OnceLock<Upstream> = OnceLock::new();
    B.get_or_init(|| Upstream::start("b").unwrap())
}

/// The values with which a header reached the upstream that gave this answer.
pub fn header_seen(reply: &Reply, name: &str) -> Vec<String> {
    let seen = reply.json().unwrap();
    let headers = seen["headers"].as_array().expect("an answer of an upstream");
    let values = headers.iter().filter(|pair| pair[0] == name).filter_map(|pair| pair[1].as_str());
    values.map(str::to_owned).collect()
}

/// All header fields that reached the upstream that gave this answer, byte for byte.
pub fn headers_seen(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let seen = reply.json().unwrap();
    let headers = seen["headers"].as_array().expect("an answer of an upstream");
    // Written as Latin-1, one character a byte.
    let bytes = |value: &Value| value.as_str().unwrap_or_default().chars().map(|c| c as u8).collect();
    headers.iter().map(|pair| (pair[0].as_str().unwrap_or_default().to_owned(), bytes(&pair[1]))).collect()
}

/// One field of what reached the upstream that gave this answer.
pub fn seen(reply: &Reply, field: &str) -> Value {
    reply.json().unwrap()[field].clone()
}
