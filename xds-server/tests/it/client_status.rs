//! Client status over real gRPC: tonic's own client against a server on port 0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use envoy_types::pb::envoy::service::status::v3::{ClientConfig, ClientStatusRequest, ConfigStatus};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::Any;
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::{Code, Status};
use xds_server::client_status::{AnswerLimits, ClientStatusService, Visibility};
use xds_server::discovery::{DiscoveryService, Limits, Registry, SnapshotCache};
use xds_server::snapshot::{Snapshot, TypeUrl};

use crate::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(20);

type Client = ClientStatusDiscoveryServiceClient<Channel>;

struct Server {
    cache: SnapshotCache,
    registry: Registry,
    address: SocketAddr,
}

impl Server {
    async fn start(visibility: Visibility, limits: AnswerLimits) -> Server {
        let (cache, registry) = (SnapshotCache::new(), Registry::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let discovery = DiscoveryService::new(cache.clone(), registry.clone(), Limits::default());
        let status = ClientStatusService::new(discovery.clone(), visibility, limits);
        let routes = discovery.routes().add_service(status.into_server());
        tokio::spawn(async move { discovery.serve_routes(routes, listener, std::future::pending()).await });
        Server { cache, registry, address }
    }

    fn set(&self, group: &str, resources: &[(&TypeUrl, &str, &str)]) {
        let mut builder = Snapshot::builder();
        for (type_url, name, body) in resources {
            builder.insert_versioned(type_url, name, body, body.as_bytes());
        }
        self.cache.set(group, Arc::new(builder.build()));
    }

    async fn client(&self) -> Client {
        Client::connect(format!("http://{}", self.address)).await.unwrap()
    }

    /// The one proxy's resources once they are as expected: `CDS a@1 Synced`, one a line.
    async fn until(&self, expected: &[&str]) -> Vec<GenericXdsConfig> {
        let mut client = self.client().await;
        let mut revision = self.registry.watch();
        let mut last = Vec::new();
        let wait = async {
            loop {
                let config = ask(&mut client, "edge").await.unwrap();
                let configs = config.into_iter().flat_map(|client| client.generic_xds_configs);
                let configs: Vec<_> = configs.collect();
                last = configs.iter().map(shown).collect();
                if last == expected {
                    return configs;
                }
                // A push changes nothing that is watched, so look again all the same.
                drop(tokio::time::timeout(Duration::from_millis(50), revision.changed()).await);
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(configs) => configs,
            Err(_) => panic!("expected {expected:?}, and last was {last:?}"),
        }
    }
}

async fn ask(client: &mut Client, group: &str) -> Result<Vec<ClientConfig>, Status> {
    client.fetch_client_status(request(group)).await.map(|response| response.into_inner().config)
}

fn request(group: &str) -> ClientStatusRequest {
    let node = Node { id: "operator".into(), cluster: group.into(), ..Node::default() };
    ClientStatusRequest { node: Some(node), ..Default::default() }
}

fn shown(config: &GenericXdsConfig) -> String {
    let status = ConfigStatus::try_from(config.config_status).unwrap();
    format!("{} {}@{} {status:?}", TypeUrl::new(&config.type_url).short(), config.name, config.version_info)
}

#[tokio::test]
async fn each_resource_has_the_status_of_its_last_answer() {
    let server = Server::start(Visibility::OwnGroup, AnswerLimits::default()).await;
    server.set("edge", &[(&TypeUrl::CLUSTER, "a", "1"), (&TypeUrl::LISTENER, "l", "1")]);
    let mut proxy = Proxy::connect(server.address, "edge").await;
    let clusters = proxy.expect("CDS +a").await;
    server.until(&["CDS a@1 Stale", "LDS l@1 Stale"]).await;
    proxy.accept(&clusters).await;
    let listeners = proxy.expect("LDS +l").await;
    let configs = server.until(&["CDS a@1 Synced", "LDS l@1 Stale"]).await;
    let content = Any { type_url: TypeUrl::CLUSTER.to_string(), value: b"1".to_vec() };
    assert_eq!(configs[0].xds_config, Some(content));
    assert!(configs[0].last_updated.as_ref().is_some_and(|at| at.seconds > 0));
    assert_eq!(configs[0].error_state, None);

    proxy.refuse(&listeners, "no such filter").await;
    let configs = server.until(&["CDS a@1 Synced", "LDS l@1 Error"]).await;
    let error = configs[1].error_state.as_ref().unwrap();
    assert_eq!((error.details.as_str(), error.version_info.as_str()), ("no such filter", "1"));
    assert!(error.last_update_attempt.is_some());
}

#[tokio::test]
async fn contents_are_left_out_where_asked_and_secrets_always() {
    let server = Server::start(Visibility::OwnGroup, AnswerLimits::default()).await;
    server.set("edge", &[(&TypeUrl::CLUSTER, "a", "1"), (&TypeUrl::SECRET, "key", "private")]);
    let mut proxy = Proxy::connect(server.address, "edge").await;
    proxy.expect_and_accept("CDS +a").await;
    proxy.ask(&TypeUrl::SECRET, &["key"]).await;
    proxy.accept_any().await;
    let configs = server.until(&["CDS a@1 Synced", "SDS key@private Stale"]).await;
    assert_eq!(configs[1].xds_config, None);
    assert!(configs[0].xds_config.is_some());

    let request = ClientStatusRequest { exclude_resource_contents: true, ..request("edge") };
    let answer = server.client().await.fetch_client_status(request).await.unwrap().into_inner();
    assert!(answer.config[0].generic_xds_configs.iter().all(|config| config.xds_config.is_none()));
}

#[tokio::test]
async fn a_peer_is_told_of_its_own_group_only() {
    let own = Server::start(Visibility::OwnGroup, AnswerLimits::default()).await;
    let all = Server::start(Visibility::All, AnswerLimits::default()).await;
    let off = Server::start(Visibility::Off, AnswerLimits::default()).await;
    let mut proxies = Vec::new();
    for server in [&own, &all] {
        for group in ["edge", "sidecar"] {
            server.set(group, &[(&TypeUrl::CLUSTER, "a", "1")]);
            let mut proxy = Proxy::connect(server.address, group).await;
            proxy.expect_and_accept("CDS +a").await;
            proxies.push(proxy);
        }
    }
    let ids = |configs: Vec<ClientConfig>| -> Vec<String> {
        configs.into_iter().map(|config| config.node.unwrap().id).collect()
    };
    assert_eq!(ids(ask(&mut own.client().await, "edge").await.unwrap()), ["edge-1"]);
    assert_eq!(ids(ask(&mut own.client().await, "sidecar").await.unwrap()), ["sidecar-1"]);
    assert_eq!(ids(ask(&mut own.client().await, "other").await.unwrap()), [""; 0]);
    assert_eq!(ids(ask(&mut all.client().await, "other").await.unwrap()), ["edge-1", "sidecar-1"]);
    assert_eq!(ask(&mut off.client().await, "edge").await.unwrap_err().code(), Code::PermissionDenied);
    let nobody = own.client().await.fetch_client_status(ClientStatusRequest::default()).await;
    assert_eq!(nobody.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_answers_each_request_and_honours_node_matchers() {
    let server = Server::start(Visibility::All, AnswerLimits::default()).await;
    let mut proxies = Vec::new();
    for group in ["edge", "sidecar"] {
        server.set(group, &[(&TypeUrl::CLUSTER, "a", "1")]);
        let mut proxy = Proxy::connect(server.address, group).await;
        proxy.expect_and_accept("CDS +a").await;
        proxies.push(proxy);
    }
    let requests = ["side", "edge", "none"].map(|prefix| {
        let node_id =
            StringMatcher { match_pattern: Some(MatchPattern::Prefix(prefix.into())), ignore_case: false };
        let matcher = NodeMatcher { node_id: Some(node_id), node_metadatas: Vec::new() };
        ClientStatusRequest { node_matchers: vec![matcher], ..Default::default() }
    });
    let mut client = server.client().await;
    let mut answers = client.stream_client_status(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for expected in [&["sidecar-1"][..], &["edge-1"], &[]] {
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
        let ids: Vec<_> = answer.config.into_iter().map(|config| config.node.unwrap().id).collect();
        assert_eq!(ids, expected);
    }
}

#[tokio::test]
async fn an_answer_past_the_limits_is_refused_and_not_cut() {
    let limits = AnswerLimits { resources: 3, content_bytes: 1000 };
    let server = Server::start(Visibility::OwnGroup, limits).await;
    let body = "x".repeat(900);
    server.set("edge", &[(&TypeUrl::CLUSTER, "a", "1"), (&TypeUrl::CLUSTER, "b", "1")]);
    let mut proxy = Proxy::connect(server.address, "edge").await;
    proxy.expect_and_accept("CDS +a +b").await;
    assert!(ask(&mut server.client().await, "edge").await.is_ok());
    for large in [
        &[(&TypeUrl::CLUSTER, "a", &*body), (&TypeUrl::CLUSTER, "b", &*body)][..],
        &[(&TypeUrl::CLUSTER, "a", "1"), (&TypeUrl::CLUSTER, "b", "1"), (&TypeUrl::CLUSTER, "c", "1")],
    ] {
        server.set("edge", large);
        proxy.accept_any().await;
        let error = ask(&mut server.client().await, "edge").await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    }
}
