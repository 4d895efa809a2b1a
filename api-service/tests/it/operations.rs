//! What operators look at: probes, metrics, request ids, limits.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Api, eventually, send};

#[tokio::test]
async fn probes_answer_on_both_ports() {
    let api = Api::start(&[]).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(api.get(path).await.status, 200);
        assert_eq!(send(api.internal(Method::GET, path)).await.status, 200);
    }
}

#[tokio::test]
async fn metrics_count_requests_by_matched_route_never_by_path() {
    let api = Api::start(&[]).await;
    api.get("/v1/apis/one").await;
    api.get("/v1/apis/two").await;
    api.get("/nowhere/at/all").await;
    let series = |route: &str| {
        format!(
            "tollgate_api_http_requests_total{{method=\"GET\",port=\"public\",route=\"{route}\",status=\"404\"}}"
        )
    };
    assert_eq!(api.metric(&series("/v1/apis/{id}")).await, 2.0);
    assert_eq!(api.metric(&series("unmatched")).await, 1.0);
    let latency = "tollgate_api_http_request_duration_seconds_count{port=\"public\",route=\"/v1/apis/{id}\"}";
    assert_eq!(api.metric(latency).await, 2.0);
    assert_eq!(api.metric("tollgate_api_http_requests_in_flight{port=\"public\"}").await, 0.0);
    assert_eq!(api.metric("tollgate_api_http_requests_in_flight{port=\"internal\"}").await, 1.0);
    let made_up = Method::from_bytes(b"MADEUP").unwrap();
    send(api.request(made_up, "/healthz")).await;
    let other = "tollgate_api_http_requests_total{method=\"other\",port=\"public\",route=\"/healthz\",status=\"405\"}";
    assert_eq!(api.metric(other).await, 1.0);
}

#[tokio::test]
async fn a_sane_request_id_comes_back_and_any_other_is_replaced() {
    let api = Api::start(&[]).await;
    let with = async |id: &str| send(api.request(Method::GET, "/nowhere").header("x-request-id", id)).await;
    let kept = with("trace-1.2:3").await;
    assert_eq!(kept.header("x-request-id"), "trace-1.2:3");
    assert_eq!(kept.is_problem(404, "not-found")["request_id"], "trace-1.2:3");
    for odd in ["", "a b", "{\"x\":1}", &"x".repeat(129)] {
        let replaced = with(odd).await;
        assert_eq!(replaced.header("x-request-id").len(), 36, "{odd}");
    }
    assert_eq!(api.get("/healthz").await.header("x-request-id").len(), 36);
}

#[tokio::test]
async fn requests_past_the_limit_are_refused_while_probes_still_answer() {
    let api = Api::start(&["--max-requests", "1", "--body-timeout", "20s", "--request-timeout", "20s"]).await;
    // One request is in progress as long as its body is missing.
    let mut slow = TcpStream::connect(api.public).await.unwrap();
    let head = "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    eventually("the slow request is in progress", async || {
        (api.metric("tollgate_api_http_requests_in_flight{port=\"public\"}").await == 1.0).then_some(())
    })
    .await;

    let refused = api.get("/v1/apis").await;
    refused.is_problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(api.get("/healthz").await.status, 200);

    slow.write_all(b"{}").await.unwrap();
    let mut start = [0; 12];
    slow.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 422");
    eventually("there is room again", async || (api.get("/v1/apis").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn connections_past_the_limit_wait_until_one_closes() {
    let api = Api::start(&["--max-connections", "1"]).await;
    let mut first = TcpStream::connect(api.public).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 15];
    first.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    let mut second = TcpStream::connect(api.public).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let early =
        tokio::time::timeout(std::time::Duration::from_millis(50), second.read_exact(&mut start)).await;
    assert!(early.is_err(), "answered past the limit");
    drop(first);
    second.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_flood_of_log_ins_waits_for_its_turn_and_then_gives_up() {
    let limits = ["--max-password-hashes", "1", "--request-timeout", "60ms", "--body-timeout", "60ms"];
    let api = Api::start(&limits).await;
    let body = json!({"email": "ada@example.com", "password": "whatever it may be"});
    let answers =
        futures_util::future::join_all((0..40).map(|_| api.post("/v1/sessions", body.clone()))).await;
    let given_up = answers.iter().filter(|answer| answer.status == 503).count();
    assert!(given_up > 0, "40 hashes of 19 MiB, one at a time, in 60 ms?");
    for answer in answers.iter().filter(|answer| answer.status == 503) {
        answer.is_problem(503, "unavailable");
    }
    eventually("the service recovers", async || (api.get("/readyz").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_failing_store_is_counted_and_not_described_to_the_caller() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("api.sqlite").display());
    let api = Api::start(&["--database", &url]).await;
    let saboteur = sqlx::SqlitePool::connect(&url).await.unwrap();
    for table in ["apis", "signing_keys"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP TABLE {table}"))).execute(&saboteur).await.unwrap();
    }
    for path in ["/v1/apis", "/readyz"] {
        let answer = api.get(path).await;
        answer.is_problem(503, "unavailable");
        for word in ["table", "sql", "signing"] {
            assert!(!answer.text.to_lowercase().contains(word), "{}", answer.text);
        }
    }
    assert_eq!(api.metric("tollgate_api_store_errors_total").await, 2.0);
    assert_eq!(api.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn events_follow_what_happened() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let key = api.post_as(&ada, "/v1/keys", json!({"name": "k"})).await.json();
    api.delete_as(&ada, &format!("/v1/keys/{}", key["id"].as_str().unwrap())).await;
    assert_eq!(api.event_names(), ["account.registered", "key.created", "key.revoked"]);
}
