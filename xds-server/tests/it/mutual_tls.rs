//! mTLS: a certificate decides the group, on every service of the port, and everything is replaced without a restart.

use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::envoy::service::status::v3::ClientStatusRequest;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use prost::Name;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::discovery::{PATIENCE, next};
use crate::rollout::Running;
use crate::secure::{Authority, Client, Issued};

const EDGE: &str = "spiffe://example.org/edge/a";
const SIDECAR: &str = "spiffe://example.org/sidecar/a";

/// Both groups have a listener that routes to these clusters.
fn yaml(clusters: &[&str]) -> String {
    let mut routes = String::new();
    let mut text = String::from("clusters:\n");
    for name in clusters {
        routes += &format!("{{ match: {{ path: {{ prefix: /{name} }} }}, to: {name} }}, ");
        text += &format!("  {name}: {{ endpoints: [127.0.0.1:1] }}\n");
    }
    format!(
        "version: v1\nproxies:\n  edge: {{ listeners: [all], identities: ['spiffe://example.org/edge/*'] }}\n  \
         sidecar: {{ listeners: [all], identities: ['spiffe://example.org/sidecar/*'] }}\nlisteners:\n  all:\n    \
         address: 127.0.0.1:80\n    virtual_hosts: [{{ name: all, hosts: ['*'], routes: [{routes}] }}]\n{text}"
    )
}

struct Secured {
    server: Running,
    authority: Authority,
    clients: Authority,
}

impl Secured {
    async fn start() -> Self {
        let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (certificate, key, ca) = (file("port.pem"), file("port.key"), file("clients.pem"));
        let issued = authority.issue("xds.internal");
        for (path, text) in [(&certificate, &issued.chain), (&key, &issued.key), (&ca, &clients.pem)] {
            std::fs::write(path, text).unwrap();
        }
        let arguments = [
            ["--grpc-certificate", &certificate],
            ["--grpc-key", &key],
            ["--grpc-client-ca", &ca],
            ["--http-address", "127.0.0.1:0"],
        ];
        let server = Running::start_in(folder, &yaml(&["api"]), arguments.as_flattened()).await;
        Self { server, authority, clients }
    }

    fn client<'a>(&'a self, shown: Option<&'a Issued>) -> Client<'a> {
        Client { address: self.server.address, authority: &self.authority, shown }
    }

    async fn channel(&self, shown: &Issued) -> Channel {
        self.client(Some(shown)).connect().await.unwrap().0
    }

    fn replace(&self, name: &str, text: &str) {
        let (folder, new) = (self.server.folder.path(), self.server.folder.path().join("new~"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, folder.join(name)).unwrap();
    }

    /// Waits until a new connection of a client is as expected.
    async fn until_new<T>(
        &self,
        shown: &Issued,
        expected: impl AsyncFn(Result<Channel, String>) -> Option<T>,
    ) -> T {
        let wait = async {
            loop {
                let channel = self.client(Some(shown)).connect().await.map(|(channel, _)| channel);
                if let Some(found) = expected(channel).await {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("in time")
    }
}

fn node(cluster: &str) -> Option<Node> {
    Some(Node { id: "proxy-1".into(), cluster: cluster.into(), ..Node::default() })
}

fn all_clusters(cluster: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { node: node(cluster), type_url: Cluster::type_url(), ..Default::default() }
}

/// A stream that stays open on our side.
fn requests<T: Send + 'static>(first: T) -> impl tokio_stream::Stream<Item = T> + Send + 'static {
    tokio_stream::once(first).chain(tokio_stream::pending())
}

type Responses<T> = Streaming<T>;

async fn ads(
    channel: Channel,
    cluster: &str,
) -> Result<Responses<envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse>, Status> {
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    Ok(client.delta_aggregated_resources(requests(all_clusters(cluster))).await?.into_inner())
}

/// What each service of the port has for a client that says it is of this cluster: nothing, or an answer.
async fn asked(channel: &Channel, cluster: &str) -> Vec<(&'static str, Result<(), Status>)> {
    let delta = async {
        let mut responses = ads(channel.clone(), cluster).await?;
        next(&mut responses).await.map(drop)
    };
    let state_of_the_world = async {
        let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
        let request =
            DiscoveryRequest { node: node(cluster), type_url: Cluster::type_url(), ..Default::default() };
        let mut responses = client.stream_aggregated_resources(requests(request)).await?.into_inner();
        next(&mut responses).await.map(drop)
    };
    let secrets = async {
        let mut client = SecretDiscoveryServiceClient::new(channel.clone());
        let names = vec!["certificate/public".to_owned()];
        let request = DeltaDiscoveryRequest {
            node: node(cluster),
            resource_names_subscribe: names,
            ..Default::default()
        };
        let mut responses = client.delta_secrets(requests(request)).await?.into_inner();
        next(&mut responses).await.map(drop)
    };
    let load = async {
        let mut client = LoadReportingServiceClient::new(channel.clone());
        let request = LoadStatsRequest { node: node(cluster), cluster_stats: Vec::new() };
        let mut responses = client.stream_load_stats(requests(request)).await?.into_inner();
        next(&mut responses).await.map(drop)
    };
    let client_status = async {
        let mut client = ClientStatusDiscoveryServiceClient::new(channel.clone());
        let request = ClientStatusRequest { node: node(cluster), ..Default::default() };
        client.fetch_client_status(request).await.map(drop)
    };
    vec![
        ("delta ADS", delta.await),
        ("ADS", state_of_the_world.await),
        ("SDS", secrets.await),
        ("LRS", load.await),
        ("CSDS", client_status.await),
    ]
}

#[tokio::test]
async fn a_certificate_opens_its_own_group_and_no_service_of_another() {
    let secured = Secured::start().await;
    let (edge, sidecar, stranger) =
        (secured.clients.issue(EDGE), secured.clients.issue(SIDECAR), secured.clients.issue("edge.internal"));
    for (shown, cluster, allowed) in [
        (&edge, "edge", true),
        (&edge, "", true),
        (&sidecar, "sidecar", true),
        (&sidecar, "edge", false),
        (&edge, "sidecar", false),
        (&stranger, "edge", false),
        (&stranger, "", false),
        (&edge, "unknown", false),
    ] {
        let channel = secured.channel(shown).await;
        for (service, answer) in asked(&channel, cluster).await {
            match answer {
                Ok(()) => assert!(allowed, "{service} of `{cluster}` was served"),
                Err(status) => {
                    assert!(!allowed, "{service} of `{cluster}`: {status}");
                    assert_eq!(status.code(), Code::PermissionDenied, "{service} of `{cluster}`: {status}");
                }
            }
        }
    }
}

#[tokio::test]
async fn only_certificates_of_the_authority_that_are_valid_now_may_connect() {
    let secured = Secured::start().await;
    let other = Authority::new("clients").issue(EDGE);
    let expired = secured.clients.issue_until(EDGE, SystemTime::now() - Duration::from_secs(60));
    for (who, shown) in
        [("nothing shown", None), ("another authority", Some(&other)), ("expired", Some(&expired))]
    {
        let answer = match secured.client(shown).connect().await {
            Ok((channel, _)) => match ads(channel, "edge").await {
                Ok(mut responses) => {
                    next(&mut responses).await.map(drop).map_err(|status| status.to_string())
                }
                Err(status) => Err(status.to_string()),
            },
            Err(error) => Err(error),
        };
        assert!(answer.is_err(), "{who} was served");
    }
    let count = |refused: &serde_json::Value| refused["handshake"] == 3;
    secured.server.status_at("/port/refused", "three refused handshakes", count).await;
}

#[tokio::test]
async fn a_client_in_plain_text_is_refused_and_holds_back_nobody() {
    let secured = Secured::start().await;
    let silent = tokio::net::TcpStream::connect(secured.server.address).await.unwrap();
    let plain = format!("http://{}", secured.server.address);
    let channel = Channel::from_shared(plain).unwrap().connect().await;
    let answer = async { ads(channel.map_err(drop)?, "edge").await.map_err(drop) };
    assert!(answer.await.is_err());
    let mut responses = ads(secured.channel(&secured.clients.issue(EDGE)).await, "edge").await.unwrap();
    assert!(next(&mut responses).await.unwrap().is_some());
    drop(silent);
}

#[tokio::test]
async fn the_port_s_certificate_is_replaced_without_a_restart_and_old_connections_live() {
    let secured = Secured::start().await;
    let edge = secured.clients.issue(EDGE);
    let (requests, receiver) = tokio::sync::mpsc::channel(4);
    requests.send(all_clusters("edge")).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(secured.channel(&edge).await);
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut old = client.delta_aggregated_resources(receiver).await.unwrap().into_inner();
    let first = next(&mut old).await.unwrap().unwrap();
    let accepted =
        DeltaDiscoveryRequest { type_url: first.type_url, response_nonce: first.nonce, ..Default::default() };
    requests.send(accepted).await.unwrap();

    let new = secured.authority.issue("xds.internal");
    secured.replace("port.pem", &new.chain);
    let told = |warnings: &serde_json::Value| warnings.to_string().contains("port.key is not the key");
    secured.server.status_at("/port/warnings", "the warning", told).await;
    let (_, shown) = secured.client(Some(&edge)).connect().await.unwrap();
    assert_ne!(shown, new.certificate(), "half a pair is not shown");

    secured.replace("port.key", &new.key);
    let gone = |warnings: &serde_json::Value| warnings.as_array().is_some_and(Vec::is_empty);
    secured.server.status_at("/port/warnings", "no warning", gone).await;
    let (_, shown) = secured.client(Some(&edge)).connect().await.unwrap();
    assert_eq!(shown, new.certificate());
    secured.server.edit(&yaml(&["api", "added"]));
    assert_eq!(next(&mut old).await.unwrap().unwrap().resources[0].name, "added");
}

#[tokio::test]
async fn other_authorities_end_the_connections_that_the_old_ones_let_in() {
    let secured = Secured::start().await;
    let edge = secured.clients.issue(EDGE);
    let mut old = ads(secured.channel(&edge).await, "edge").await.unwrap();
    next(&mut old).await.unwrap().unwrap();
    let clients = Authority::new("new clients");
    secured.replace("clients.pem", &clients.pem);
    assert!(next(&mut old).await.unwrap().is_none(), "the old stream ends");
    let refused = async |channel: Result<Channel, String>| match channel {
        Ok(channel) => ads(channel, "edge").await.err().map(drop),
        Err(_) => Some(()),
    };
    secured.until_new(&edge, refused).await;
    let edge = clients.issue(EDGE);
    let mut responses = ads(secured.channel(&edge).await, "edge").await.unwrap();
    assert!(next(&mut responses).await.unwrap().is_some());
}

#[tokio::test]
async fn a_connection_ends_with_its_client_s_certificate() {
    let secured = Secured::start().await;
    let edge = secured.clients.issue_until(EDGE, SystemTime::now() + Duration::from_secs(5));
    let mut responses = ads(secured.channel(&edge).await, "edge").await.unwrap();
    next(&mut responses).await.unwrap().unwrap();
    assert!(next(&mut responses).await.unwrap().is_none());
}

#[tokio::test]
async fn identities_that_are_taken_out_of_the_yaml_end_the_streams_that_they_let_in() {
    let secured = Secured::start().await;
    let edge = secured.clients.issue(EDGE);
    let channel = secured.channel(&edge).await;
    let mut resources = ads(channel.clone(), "edge").await.unwrap();
    next(&mut resources).await.unwrap().unwrap();
    let mut client = LoadReportingServiceClient::new(channel.clone());
    let request = LoadStatsRequest { node: node("edge"), cluster_stats: Vec::new() };
    let mut load = client.stream_load_stats(requests(request)).await.unwrap().into_inner();
    next(&mut load).await.unwrap().unwrap();

    secured.server.edit(&yaml(&["api"]).replace("org/edge/*", "org/edge/b/*"));
    assert_eq!(next(&mut resources).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(next(&mut load).await.unwrap_err().code(), Code::PermissionDenied);
    let mut again = ads(channel.clone(), "edge").await.unwrap();
    assert_eq!(next(&mut again).await.unwrap_err().code(), Code::PermissionDenied);

    secured.server.edit(&yaml(&["api"]));
    let served = async |channel: Result<Channel, String>| {
        next(&mut ads(channel.ok()?, "edge").await.ok()?).await.ok()?
    };
    secured.until_new(&edge, served).await;
}

#[tokio::test]
async fn a_group_with_identities_is_closed_where_nobody_can_show_one_and_that_is_told() {
    let server = Running::start(&yaml(&["api"]), "1s").await;
    let told = |warnings: &serde_json::Value| {
        let text = warnings.to_string();
        text.contains("group `edge` is served to nobody: clients are not asked for certificates")
    };
    let warnings = server.status_at("/config/warnings", "the warning", told).await;
    assert_eq!(warnings[0]["line"], 3, "{warnings}");
    let plain = format!("http://{}", server.address);
    let channel = Channel::from_shared(plain).unwrap().connect().await.unwrap();
    for (service, answer) in asked(&channel, "edge").await {
        assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied, "{service}");
    }
}
