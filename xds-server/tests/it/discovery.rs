//! The discovery services over real gRPC: tonic's own clients against a server on port 0.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use xds_server::discovery::registry::Event;
use xds_server::discovery::session::Answer;
use xds_server::discovery::{DiscoveryService, Limits, Registry, SnapshotCache};
use xds_server::snapshot::{Snapshot, SnapshotBuilder, TypeUrl};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub cache: SnapshotCache,
    pub registry: Registry,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Server {
    pub async fn start(limits: Limits) -> Server {
        let (cache, registry) = (SnapshotCache::new(), Registry::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = DiscoveryService::new(cache.clone(), registry.clone(), limits);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            service.serve_with_listener(listener, shutdown).await;
        });
        Server { cache, registry, address, stop: Some(stop), served }
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub async fn delta(&self) -> Delta {
        self.delta_over(self.channel().await).await
    }

    pub async fn delta_over(&self, channel: Channel) -> Delta {
        self.try_delta_over(channel).await.unwrap()
    }

    pub async fn try_delta_over(&self, channel: Channel) -> Result<Delta, tonic::Status> {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(1 << 30);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let responses = client.delta_aggregated_resources(stream).await?.into_inner();
        Ok(Delta { requests, responses })
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Registry) -> bool) {
        let mut revision = self.registry.watch();
        let wait = async {
            while !holds(&self.registry) {
                revision.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

pub struct Delta {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub responses: Streaming<DeltaDiscoveryResponse>,
}

impl Delta {
    pub async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    pub async fn next(&mut self) -> DeltaDiscoveryResponse {
        next(&mut self.responses).await.unwrap().unwrap()
    }

    pub async fn ack(&self, response: &DeltaDiscoveryResponse) {
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.send(DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() }).await;
    }
}

pub async fn next<T>(responses: &mut Streaming<T>) -> Result<Option<T>, tonic::Status> {
    tokio::time::timeout(PATIENCE, responses.message()).await.expect("a response in time")
}

pub fn node(id: &str) -> Option<Node> {
    Some(Node { id: id.into(), cluster: "edge".into(), ..Default::default() })
}

pub fn ask(id: &str, type_url: &TypeUrl) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: node(id),
        type_url: type_url.to_string(),
        resource_names_subscribe: vec!["*".into()],
        ..Default::default()
    }
}

pub fn clusters(count: usize) -> Arc<Snapshot> {
    let mut builder = Snapshot::builder();
    for n in 0..count {
        builder.insert(&TypeUrl::CLUSTER, &format!("cluster-{n}"), format!("body of cluster {n}").as_bytes());
    }
    Arc::new(builder.build())
}

pub fn edited(snapshot: &Snapshot, name: &str, body: &str) -> Arc<Snapshot> {
    let mut builder = SnapshotBuilder::editing(snapshot);
    builder.insert(&TypeUrl::CLUSTER, name, body.as_bytes());
    Arc::new(builder.build())
}

#[tokio::test]
async fn a_delta_client_follows_its_group_and_the_registry_follows_it() {
    let mut server = Server::start(Limits::default()).await;
    let mut events = server.registry.subscribe();
    let mut client = server.delta().await;
    client.send(ask("envoy-1", &TypeUrl::CLUSTER)).await;
    server.until("connected", |registry| registry.connected() == 1).await;

    let first = clusters(3);
    server.cache.set("edge", first.clone());
    let response = client.next().await;
    assert_eq!(response.resources.len(), 3);
    assert!(!server.registry.all_acked("edge", &first));
    client.ack(&response).await;
    server.until("acked", |registry| registry.all_acked("edge", &first)).await;

    let second = edited(&first, "cluster-1", "changed");
    server.cache.set("edge", second.clone());
    let response = client.next().await;
    assert_eq!(response.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["cluster-1"]);
    client
        .send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: Some(envoy_types::pb::google::rpc::Status {
                message: "no".into(),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await;
    server.until("refused", |registry| !registry.progress("edge", &second).refused.is_empty()).await;
    let connected = server.registry.list();
    assert_eq!(connected[0].types[&TypeUrl::CLUSTER].nack.as_ref().unwrap().message, "no");
    let count = server.registry.counters().read().next().unwrap();
    assert_eq!((count.pushes, count.acks, count.nacks), (2, 1, 1));

    drop(client);
    server.until("disconnected", |registry| registry.connected() == 0).await;
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(match event {
            Event::Connected(proxy) => format!("connected {}", proxy.id),
            Event::Answered(_, Answer::Ack { .. }) => "ack".into(),
            Event::Answered(_, Answer::Nack { message, .. }) => format!("nack {message}"),
            Event::Disconnected(_) => "disconnected".into(),
        });
    }
    assert_eq!(seen, ["connected envoy-1", "ack", "nack no", "disconnected"]);
    server.stop.take();
    server.served.await.unwrap();
}

#[tokio::test]
async fn a_type_has_its_own_service_in_both_flavours() {
    let server = Server::start(Limits::default()).await;
    server.cache.set("edge", clusters(2));
    let mut client = ClusterDiscoveryServiceClient::new(server.channel().await);

    // The type URL may be left out.
    let request = DiscoveryRequest { node: node("a"), ..Default::default() };
    let stream = tokio_stream::iter([request]);
    let mut responses = client.stream_clusters(stream).await.unwrap().into_inner();
    let response: DiscoveryResponse = next(&mut responses).await.unwrap().unwrap();
    assert_eq!(response.resources.len(), 2);
    assert_eq!(response.resources[0].value, b"body of cluster 0");

    let request = DeltaDiscoveryRequest { node: node("b"), ..Default::default() };
    let mut responses = client.delta_clusters(tokio_stream::iter([request])).await.unwrap().into_inner();
    assert_eq!(next(&mut responses).await.unwrap().unwrap().resources.len(), 2);
}

#[tokio::test]
async fn the_node_is_read_from_the_first_request_only() {
    let server = Server::start(Limits::default()).await;
    server.cache.set("edge", clusters(1));
    let mut client = server.delta().await;
    client.send(ask("first", &TypeUrl::CLUSTER)).await;
    client.next().await;
    client.send(DeltaDiscoveryRequest { node: None, ..ask("", &TypeUrl::LISTENER) }).await;
    client.next().await;
    client.send(ask("second", &TypeUrl::ROUTE)).await;
    client.next().await;
    assert_eq!(server.registry.list()[0].proxy.id, "first");
}

#[tokio::test]
async fn a_first_request_without_node_id_is_an_invalid_argument() {
    let server = Server::start(Limits::default()).await;
    for node in [None, node("")] {
        let mut client = server.delta().await;
        client.send(DeltaDiscoveryRequest { node, ..ask("", &TypeUrl::CLUSTER) }).await;
        let status = next(&mut client.responses).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("node.id"), "{status}");
    }
    assert_eq!(server.registry.connected(), 0);
}

#[tokio::test]
async fn a_stream_that_never_asks_is_ended() {
    let limits = Limits { first_request: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits).await;
    let mut client = server.delta().await;
    assert_eq!(next(&mut client.responses).await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn streams_past_the_limit_are_refused() {
    let server = Server::start(Limits { streams: 1, ..Limits::default() }).await;
    let channel = server.channel().await;
    let first = server.delta_over(channel.clone()).await;
    let stream = tokio_stream::iter([ask("b", &TypeUrl::CLUSTER)]);
    let refused = AggregatedDiscoveryServiceClient::new(channel).delta_aggregated_resources(stream).await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    drop(first);
}

#[tokio::test]
async fn an_oversized_request_ends_the_stream_and_no_other() {
    let server = Server::start(Limits { request_bytes: 1000, ..Limits::default() }).await;
    server.cache.set("edge", clusters(1));
    let mut small = server.delta().await;
    small.send(ask("small", &TypeUrl::CLUSTER)).await;
    let response = small.next().await;
    let mut large = server.delta().await;
    large.send(ask(&"x".repeat(2000), &TypeUrl::CLUSTER)).await;
    assert_eq!(next(&mut large.responses).await.unwrap_err().code(), Code::OutOfRange);
    small.ack(&response).await;
    server.cache.set("edge", clusters(2));
    assert_eq!(small.next().await.resources.len(), 1);
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let server = Server::start(Limits::default()).await;
    let mut client = ClusterDiscoveryServiceClient::new(server.channel().await);
    let fetched = client.fetch_clusters(DiscoveryRequest::default()).await;
    assert_eq!(fetched.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn twelve_thousand_resources_arrive_and_a_reconnect_is_sent_nothing() {
    let server = Server::start(Limits::default()).await;
    let content = clusters(12_000);
    server.cache.set("edge", content.clone());
    let mut client = server.delta().await;
    client.send(ask("a", &TypeUrl::CLUSTER)).await;
    let response = client.next().await;
    assert_eq!(response.resources.len(), 12_000);
    let held = response.resources.iter().map(|r| (r.name.clone(), r.version.clone())).collect();
    drop(client);
    server.until("disconnected", |registry| registry.connected() == 0).await;

    let mut client = server.delta().await;
    let resume = DeltaDiscoveryRequest { initial_resource_versions: held, ..ask("a", &TypeUrl::CLUSTER) };
    client.send(resume).await;
    server.until("held", |registry| registry.connected() == 1 && registry.all_acked("edge", &content)).await;
    server.cache.set("edge", edited(&content, "cluster-7", "changed"));
    let response = client.next().await;
    assert_eq!(response.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["cluster-7"]);
}

#[tokio::test]
async fn a_silent_reader_holds_back_nobody_and_then_sees_the_latest() {
    let server = Server::start(Limits::default()).await;
    let first = clusters(12_000);
    server.cache.set("edge", first.clone());
    let mut silent = server.delta().await;
    silent.send(ask("silent", &TypeUrl::CLUSTER)).await;
    let mut reader = server.delta().await;
    reader.send(ask("reader", &TypeUrl::CLUSTER)).await;
    let response = reader.next().await;
    reader.ack(&response).await;

    let mut last = first;
    for n in 0..50 {
        last = edited(&last, "cluster-1", &format!("edit {n}"));
        server.cache.set("edge", last.clone());
        let response = reader.next().await;
        assert_eq!(response.system_version_info, **last.set(&TypeUrl::CLUSTER).version());
        reader.ack(&response).await;
    }
    let missed = silent.next().await;
    silent.ack(&missed).await;
    let latest = silent.next().await;
    assert_eq!(latest.resources.len(), 1);
    assert_eq!(latest.system_version_info, **last.set(&TypeUrl::CLUSTER).version());
}

#[tokio::test]
async fn shutdown_ends_streams_with_ok_so_that_clients_reconnect() {
    let mut server = Server::start(Limits::default()).await;
    server.cache.set("edge", clusters(1));
    let mut client = server.delta().await;
    client.send(ask("a", &TypeUrl::CLUSTER)).await;
    client.next().await;
    server.stop.take().unwrap().send(()).unwrap();
    assert!(next(&mut client.responses).await.unwrap().is_none());
    tokio::time::timeout(PATIENCE, server.served).await.unwrap().unwrap();
    assert_eq!(server.registry.connected(), 0);
}
