//! Stopping: what is in flight finishes, what is new is refused, and how that looks meanwhile.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Api, PASSWORD, eventually, send};

/// A registration whose body ends where the caller wants.
async fn begin_registration(api: &Api) -> (TcpStream, Vec<u8>) {
    let body = format!(r#"{{"email":"ada@example.com","password":"{PASSWORD}"}}"#);
    let head = format!(
        "POST /v1/accounts HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (sent, rest) = body.split_at(10);
    let mut stream = TcpStream::connect(api.public).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    eventually("the request is in flight", async || {
        (api.metric("tollgate_api_http_requests_in_flight{port=\"public\"}").await == 1.0).then_some(())
    })
    .await;
    (stream, rest.as_bytes().to_vec())
}

#[tokio::test]
async fn a_request_in_flight_finishes_while_new_ones_are_refused() {
    let mut api =
        Api::start(&["--body-timeout", "20s", "--request-timeout", "20s", "--drain-timeout", "20s"]).await;
    let (mut stream, rest) = begin_registration(&api).await;

    api.stop();

    eventually("readyz says so", async || {
        let answer = send(api.internal(Method::GET, "/readyz")).await;
        (answer.status == 503).then(|| answer.is_problem(503, "unavailable"))
    })
    .await;
    eventually("new connections are refused", async || TcpStream::connect(api.public).await.err()).await;
    assert_eq!(send(api.internal(Method::GET, "/healthz")).await.status, 200);
    stream.write_all(&rest).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    api.stopped().await.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut_at_the_drain_timeout() {
    let mut api =
        Api::start(&["--body-timeout", "20s", "--request-timeout", "20s", "--drain-timeout", "50ms"]).await;
    let (mut stream, _rest) = begin_registration(&api).await;
    api.stop();
    api.stopped().await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_stop() {
    let mut api = Api::start(&["--drain-timeout", "1h"]).await;
    let mut idle = TcpStream::connect(api.public).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 15];
    idle.read_exact(&mut start).await.unwrap();
    let _silent = TcpStream::connect(api.public).await.unwrap();
    api.stop();
    api.stopped().await.unwrap();
}
