//! A proxy of few words: a delta ADS client that accepts a response only when the test says so.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::google::rpc::Status;
use prost::Name;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use xds_server::snapshot::TypeUrl;

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long nothing has to come for it to count as held back.
const SILENCE: Duration = Duration::from_millis(400);

pub struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

/// A response as a test reads it: `CDS +green -blue`.
pub fn shown(response: &DeltaDiscoveryResponse) -> String {
    let kinds = [
        (Cluster::type_url(), "CDS"),
        (ClusterLoadAssignment::type_url(), "EDS"),
        (Listener::type_url(), "LDS"),
        (RouteConfiguration::type_url(), "RDS"),
    ];
    let kind = kinds.iter().find(|(url, _)| *url == response.type_url).map_or("?", |(_, kind)| kind);
    let mut text = kind.to_owned();
    for resource in &response.resources {
        text += &format!(" +{}", resource.name);
    }
    for name in &response.removed_resources {
        text += &format!(" -{name}");
    }
    text
}

impl Proxy {
    /// Connects as a proxy of `group`, and asks for all clusters and listeners.
    pub async fn connect(address: SocketAddr, group: &str) -> Self {
        Self::connect_as(address, group, &format!("{group}-1"), &[]).await
    }

    /// Connects under a node id, with strings in the node's metadata.
    pub async fn connect_as(address: SocketAddr, group: &str, id: &str, labels: &[(&str, &str)]) -> Self {
        let mut client =
            AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await.unwrap();
        let (requests, receiver) = mpsc::channel(16);
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
        let fields = labels.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        let metadata = Some(Struct { fields });
        let node = Node { id: id.into(), cluster: group.into(), metadata, ..Node::default() };
        let first =
            DeltaDiscoveryRequest { node: Some(node), type_url: Cluster::type_url(), ..Default::default() };
        requests.send(first).await.unwrap();
        let responses =
            client.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let proxy = Self { requests, responses };
        proxy.send(DeltaDiscoveryRequest { type_url: Listener::type_url(), ..Default::default() }).await;
        proxy
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    pub async fn subscribe<M: Name>(&self, names: &[&str]) {
        self.ask(&TypeUrl::new(&M::type_url()), names).await;
    }

    pub async fn ask(&self, type_url: &TypeUrl, names: &[&str]) {
        self.send(DeltaDiscoveryRequest {
            type_url: type_url.to_string(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        })
        .await;
    }

    /// The next response, which must say that this cluster alone is gone. Its endpoints go with it, as Envoy has it.
    pub async fn expect_removal_of(&mut self, cluster: &str) {
        let removal = self.expect(&format!("CDS -{cluster}")).await;
        self.send(DeltaDiscoveryRequest {
            type_url: ClusterLoadAssignment::type_url(),
            resource_names_unsubscribe: vec![cluster.to_owned()],
            ..Default::default()
        })
        .await;
        self.accept(&removal).await;
    }

    pub async fn accept(&self, response: &DeltaDiscoveryResponse) {
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.send(DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() }).await;
    }

    pub async fn refuse(&self, response: &DeltaDiscoveryResponse, reason: &str) {
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        let error_detail = Some(Status { code: 3, message: reason.into(), details: Vec::new() });
        self.send(DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() })
            .await;
    }

    async fn next(&mut self, expected: &str) -> DeltaDiscoveryResponse {
        tokio::time::timeout(DEADLINE, self.responses.message())
            .await
            .unwrap_or_else(|_| panic!("expected {expected}, and nothing came"))
            .unwrap()
            .unwrap()
    }

    /// The next response, whatever it is, accepted.
    pub async fn accept_any(&mut self) -> DeltaDiscoveryResponse {
        let response = self.next("anything").await;
        self.accept(&response).await;
        response
    }

    /// The next response, which must be `expected`.
    pub async fn expect(&mut self, expected: &str) -> DeltaDiscoveryResponse {
        let response = self.next(expected).await;
        assert_eq!(shown(&response), expected);
        response
    }

    /// The next response, which must be `expected`, and is accepted.
    pub async fn expect_and_accept(&mut self, expected: &str) -> DeltaDiscoveryResponse {
        let response = self.expect(expected).await;
        self.accept(&response).await;
        response
    }

    /// Nothing comes.
    pub async fn expect_silence(&mut self) {
        if let Ok(response) = tokio::time::timeout(SILENCE, self.responses.message()).await {
            panic!("expected nothing, and got {}", shown(&response.unwrap().unwrap()));
        }
    }
}
