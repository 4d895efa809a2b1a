//! Requests that are wrong: always a problem document, never a 5xx.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Answer, Api, DEADLINE, send};

async fn post(api: &Api, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = api.request(Method::POST, "/v1/accounts").header("content-type", content_type);
    send(request.body(body)).await
}

/// Sends bytes and reads until the server closes.
async fn raw(api: &Api, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(api.public).await.unwrap();
    // The server may refuse and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(DEADLINE, read).await.expect("no answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_are_problems() {
    let api = Api::start(&[]).await;
    for path in ["/", "/v1", "/v1/", "/v1/accounts/", "/v2/keys", "//", "/%00", "/v1/keys/a/b"] {
        api.get(path).await.is_problem(404, "not-found");
    }
    let answer = api.get("/v1/sessions").await;
    answer.is_problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "POST,DELETE");
}

#[tokio::test]
async fn bodies_that_are_not_json_are_problems() {
    let api = Api::start(&[]).await;
    for body in ["", "{", "{]", "nope", "\u{feff}{}", "{\"email\":\"\\ud800\"}"] {
        post(&api, "application/json", body).await.is_problem(400, "malformed");
    }
    post(&api, "application/json", vec![b'"', 0xff, b'"']).await.is_problem(400, "malformed");
    let followed = r#"{"email":"a@b.cd","password":"correct horse battery"} x"#;
    post(&api, "application/json", followed).await.is_problem(400, "malformed");
    for body in ["1", "null", "[]", "\"x\"", "{}", "{\"email\": 1}", "{\"email\":\"a\",\"email\":\"b\"}"] {
        post(&api, "application/json", body).await.is_problem(422, "invalid");
    }
    let deep = "[".repeat(50_000);
    let problem = post(&api, "application/json", format!("{{\"email\":{deep}")).await;
    assert!(problem.status.is_client_error(), "{}", problem.text);
}

#[tokio::test]
async fn bodies_of_another_type_are_problems() {
    let api = Api::start(&[]).await;
    for content_type in ["text/plain", "", "application/x-www-form-urlencoded", "json", "text/json"] {
        post(&api, content_type, "{}").await.is_problem(415, "unsupported-media-type");
    }
    let untyped = send(api.request(Method::POST, "/v1/accounts").body("{}")).await;
    untyped.is_problem(415, "unsupported-media-type");
    for content_type in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"] {
        post(&api, content_type, "{}").await.is_problem(422, "invalid");
    }
}

#[tokio::test]
async fn bodies_that_are_too_large_are_problems_whether_or_not_they_say_so() {
    let api = Api::start(&["--max-body", "1000"]).await;
    let declared = "POST /v1/accounts HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                    content-length: 1001\r\n\r\n";
    assert!(raw(&api, declared.as_bytes()).await.starts_with("HTTP/1.1 413 "));
    let chunked = format!(
        "POST /v1/accounts HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        " ".repeat(1001)
    );
    let answer = raw(&api, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    post(&api, "application/json", " ".repeat(1000)).await.is_problem(400, "malformed");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up_on() {
    let api = Api::start(&["--body-timeout", "50ms"]).await;
    let head = "POST /v1/accounts HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 10\r\n\r\n{";
    let answer = raw(&api, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("/request-timeout\""), "{answer}");
}

#[tokio::test]
async fn headers_that_do_not_arrive_are_given_up_on() {
    let api = Api::start(&["--keep-alive", "50ms"]).await;
    let answer = raw(&api, b"GET /healthz HTTP/1.1\r\nhost: ").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn heads_that_are_too_large_or_not_http_are_refused() {
    let api = Api::start(&[]).await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(40 * 1024));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: 1\r\n".repeat(150));
    for head in [long, many] {
        let answer = raw(&api, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let answer = raw(&api, b"\x16\x03\x01 this is no HTTP\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(api.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_hundred_random_requests_are_answered_4xx_each() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(proptest::test_runner::Config::default(), rng);
    let headers =
        ["x-consumer-id", "x-request-id", "authorization", "if-none-match", "accept", "content-type"];
    let routes = [
        (Method::POST, "/v1/accounts"),
        (Method::POST, "/v1/sessions"),
        (Method::POST, "/v1/sessions/refresh"),
        (Method::DELETE, "/v1/sessions"),
        (Method::POST, "/v1/keys"),
        (Method::POST, "/v1/apis"),
        (Method::POST, "/v1/statistics"),
        (Method::DELETE, "/v1/keys/x"),
        (Method::DELETE, "/v1/apis/x"),
    ];
    // Broken in three ways: any bytes, JSON of any shape, the right JSON cut short.
    let json = "(\\{|\\[|\\}|\\]|,|:|\"[a-z_]{0,6}\"|-?[0-9]{1,25}|true|null| ){0,30}";
    let body = proptest::prop_oneof![
        proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..200),
        json.prop_map(String::into_bytes),
        (0_usize..60).prop_map(|length| {
            let whole = br#"{"email":"a@b.cd","password":"correct horse battery","name":"x"}"#;
            whole[..length].to_vec()
        }),
    ];
    let value = proptest::collection::vec(proptest::prop_oneof![32_u8..127, 128_u8..=255], 0..80);
    let case = (0..routes.len(), body, 0..headers.len(), value);
    for number in 0..100 {
        let (route, body, header, value) = case.new_tree(&mut runner).unwrap().current();
        let (method, path) = &routes[route];
        let request = api.request(method.clone(), path).header("content-type", "application/json");
        let request = request.header("x-consumer-id", &ada).header(headers[header], value).body(body);
        let answer = send(request).await;
        assert!(answer.status.is_client_error(), "request {number}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
}
