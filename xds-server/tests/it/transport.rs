//! Connections and what one peer may take of them, over real sockets.

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::transport::Endpoint;
use xds_server::discovery::Limits;
use xds_server::snapshot::TypeUrl;

use crate::discovery::{Delta, PATIENCE, Server, ask, clusters, edited, next};

const NEVER: Duration = Duration::from_secs(3_600);
/// HTTP/2's connection preface with an empty SETTINGS frame (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Reads until the server closes the connection.
async fn closed(mut stream: TcpStream) {
    let mut read = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("closed in time");
}

async fn served(server: &Server, id: &str) -> Delta {
    let mut client = server.delta().await;
    client.send(ask(id, &TypeUrl::CLUSTER)).await;
    let response = client.next().await;
    client.ack(&response).await;
    client
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_and_the_others_live() {
    let server = Server::start(Limits { connections: 1, ..Limits::default() }).await;
    server.cache.set("edge", clusters(1));
    let mut first = served(&server, "first").await;
    closed(TcpStream::connect(server.address).await.unwrap()).await;
    server.cache.set("edge", clusters(2));
    assert_eq!(first.next().await.resources.len(), 1);
    drop(first);
    server.until("disconnected", |registry| registry.connected() == 0).await;
    // Its place is free a moment after its stream has ended.
    let again = async {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        loop {
            let Ok(channel) = endpoint.connect().await else { continue };
            let Ok(mut client) = server.try_delta_over(channel).await else { continue };
            client.send(ask("again", &TypeUrl::CLUSTER)).await;
            if client.responses.message().await.is_ok_and(|message| message.is_some()) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("a place is free again");
}

#[tokio::test]
async fn connections_that_say_nothing_are_few_and_hold_back_nobody() {
    let limits = Limits { silent_connections: 2, first_request: NEVER, ..Limits::default() };
    let server = Server::start(limits).await;
    server.cache.set("edge", clusters(1));
    let spoken = served(&server, "spoken").await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    closed(TcpStream::connect(server.address).await.unwrap()).await;
    drop(silent);
    drop(spoken);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let limits = Limits { first_request: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits).await;
    closed(TcpStream::connect(server.address).await.unwrap()).await;
    let mut greeted = TcpStream::connect(server.address).await.unwrap();
    greeted.write_all(PREFACE).await.unwrap();
    closed(greeted).await;
}

#[tokio::test]
async fn a_peer_that_gives_no_sign_of_life_is_closed() {
    let limits = Limits {
        first_request: NEVER,
        keepalive_interval: Duration::from_millis(50),
        keepalive_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut peer = TcpStream::connect(server.address).await.unwrap();
    // It reads, but never answers a PING.
    peer.write_all(PREFACE).await.unwrap();
    closed(peer).await;
}

#[tokio::test]
async fn at_its_age_a_connection_ends_and_the_next_is_sent_only_what_is_new() {
    let limits = Limits { max_connection_age: Some(Duration::from_secs(2)), ..Limits::default() };
    let server = Server::start(limits).await;
    let content = clusters(100);
    server.cache.set("edge", content.clone());
    let channel = server.channel().await;
    let mut client = server.delta_over(channel.clone()).await;
    client.send(ask("a", &TypeUrl::CLUSTER)).await;
    let response = client.next().await;
    client.ack(&response).await;
    let before = server.registry.list()[0].proxy.peer;
    let held = response.resources.iter().map(|r| (r.name.clone(), r.version.clone())).collect();
    assert!(next(&mut client.responses).await.unwrap().is_none(), "it ends with status OK");

    // The same channel: a client that was told to go (GOAWAY) opens its next stream on a new connection.
    let mut client = server.delta_over(channel).await;
    client
        .send(DeltaDiscoveryRequest { initial_resource_versions: held, ..ask("a", &TypeUrl::CLUSTER) })
        .await;
    server.until("held", |registry| registry.connected() == 1 && registry.all_acked("edge", &content)).await;
    assert_ne!(server.registry.list()[0].proxy.peer, before, "the connection is a new one");
    server.cache.set("edge", edited(&content, "cluster-7", "changed"));
    let response = client.next().await;
    assert_eq!(response.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["cluster-7"]);
}

#[tokio::test]
async fn a_peer_that_ignores_the_end_of_its_connection_is_closed() {
    let limits = Limits {
        max_connection_age: Some(Duration::from_millis(100)),
        first_request: NEVER,
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut peer = TcpStream::connect(server.address).await.unwrap();
    peer.write_all(PREFACE).await.unwrap();
    closed(peer).await;
}

#[tokio::test]
async fn streams_past_their_rate_wait_for_their_turn() {
    let server = Server::start(Limits { streams_per_second: 10, stream_burst: 2, ..Limits::default() }).await;
    server.cache.set("edge", clusters(1));
    let channel = server.channel().await;
    let start = Instant::now();
    for n in 0..5 {
        let mut client = server.delta_over(channel.clone()).await;
        client.send(ask(&format!("proxy-{n}"), &TypeUrl::CLUSTER)).await;
        client.next().await;
    }
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
}

#[tokio::test]
async fn requests_past_their_rate_wait_for_their_turn_and_hold_back_nobody() {
    let limits = Limits { requests_per_second: 10, request_burst: 2, ..Limits::default() };
    let server = Server::start(limits).await;
    server.cache.set("edge", clusters(10));
    let mut eager = server.delta().await;
    eager
        .send(DeltaDiscoveryRequest {
            resource_names_subscribe: Vec::new(),
            ..ask("eager", &TypeUrl::ENDPOINT)
        })
        .await;
    let start = Instant::now();
    for n in 0..5 {
        let names = vec![format!("cluster-{n}")];
        eager
            .send(DeltaDiscoveryRequest {
                resource_names_subscribe: names,
                ..ask("eager", &TypeUrl::CLUSTER)
            })
            .await;
    }
    served(&server, "calm").await;
    let calm = start.elapsed();
    let mut got = 0;
    while got < 5 {
        let response = eager.next().await;
        got += response.resources.len();
        eager.ack(&response).await;
    }
    // Two at once, the others 100 ms apart.
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert!(calm < start.elapsed(), "the others waited, too");
}

#[tokio::test]
async fn a_proxy_that_holds_100_000_resources_can_reconnect() {
    const COUNT: usize = 100_000;
    let server = Server::start(Limits::default()).await;
    let content = clusters(COUNT);
    server.cache.set("edge", content.clone());
    let mut client = server.delta().await;
    client.send(ask("large", &TypeUrl::CLUSTER)).await;
    let response = client.next().await;
    assert_eq!(response.resources.len(), COUNT);
    let held = response.resources.iter().map(|r| (r.name.clone(), r.version.clone())).collect();
    drop((client, response));
    server.until("disconnected", |registry| registry.connected() == 0).await;

    let mut client = server.delta().await;
    let resume = DeltaDiscoveryRequest { initial_resource_versions: held, ..ask("large", &TypeUrl::CLUSTER) };
    client.send(resume).await;
    server.until("held", |registry| registry.connected() == 1 && registry.all_acked("edge", &content)).await;
    server.cache.set("edge", edited(&content, "cluster-7", "changed"));
    assert_eq!(client.next().await.resources.len(), 1, "only what has changed is sent");
}
