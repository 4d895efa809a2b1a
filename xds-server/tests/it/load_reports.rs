//! Load reports over real gRPC: tonic's own client against a server on port 0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use envoy_types::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use xds_server::discovery::{DiscoveryService, Limits, Registry, SnapshotCache};
use xds_server::load_reports::service::LoadService;
use xds_server::load_reports::{Load, LoadLimits, LoadReports, ProxyLoad};
use xds_server::snapshot::{Snapshot, TypeUrl};

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    cache: SnapshotCache,
    reports: LoadReports,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Server {
    async fn start(limits: LoadLimits) -> Server {
        let (cache, reports) = (SnapshotCache::new(), LoadReports::new(limits));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let discovery = DiscoveryService::new(cache.clone(), Registry::new(), Limits::default());
        let load = LoadService::new(discovery.clone(), reports.clone(), Duration::from_secs(2));
        let routes = discovery.routes().add_service(load.into_server());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            discovery.serve_routes(routes, listener, async { drop(stopped.await) }).await;
        });
        Server { cache, reports, address, stop, served }
    }

    fn set_clusters(&self, names: &[&str]) {
        let mut builder = Snapshot::builder();
        for name in names {
            builder.insert(&TypeUrl::CLUSTER, name, b"");
        }
        self.cache.set("edge", Arc::new(builder.build()));
    }

    async fn reporter(&self, node: Node) -> Reporter {
        let mut client =
            LoadReportingServiceClient::connect(format!("http://{}", self.address)).await.unwrap();
        let (requests, receiver) = mpsc::channel(16);
        let responses = client.stream_load_stats(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let first = LoadStatsRequest { node: Some(node), cluster_stats: Vec::new() };
        requests.send(first).await.unwrap();
        Reporter { requests, responses }
    }

    async fn until(&self, what: &str, holds: impl Fn(&[ProxyLoad]) -> bool) {
        let mut revision = self.reports.watch();
        let wait = async {
            while !holds(&self.reports.totals("edge")) {
                revision.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

struct Reporter {
    requests: mpsc::Sender<LoadStatsRequest>,
    responses: Streaming<LoadStatsResponse>,
}

impl Reporter {
    async fn next(&mut self) -> Result<Option<LoadStatsResponse>, tonic::Status> {
        tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("a response in time")
    }

    async fn report(&self, cluster: &str, localities: &[(u64, u64)]) {
        let localities = localities.iter().map(|(successful, errors)| UpstreamLocalityStats {
            total_successful_requests: *successful,
            total_error_requests: *errors,
            total_issued_requests: successful + errors,
            ..Default::default()
        });
        let stats = ClusterStats {
            cluster_name: cluster.into(),
            upstream_locality_stats: localities.collect(),
            ..Default::default()
        };
        // Only the first request names the node.
        self.requests.send(LoadStatsRequest { node: None, cluster_stats: vec![stats] }).await.unwrap();
    }
}

fn node(id: &str, features: &[&str]) -> Node {
    Node {
        id: id.into(),
        cluster: "edge".into(),
        client_features: features.iter().map(|feature| feature.to_string()).collect(),
        ..Default::default()
    }
}

fn envoy(id: &str) -> Node {
    node(id, &["envoy.lrs.supports_send_all_clusters"])
}

#[tokio::test]
async fn what_a_proxy_reports_is_summed_over_localities_and_time_until_it_leaves() {
    let server = Server::start(LoadLimits::default()).await;
    let mut reporter = server.reporter(envoy("envoy-1")).await;
    let asked = reporter.next().await.unwrap().unwrap();
    assert!(asked.send_all_clusters && asked.clusters.is_empty(), "{asked:?}");
    assert_eq!(asked.load_reporting_interval.unwrap().seconds, 2);

    reporter.report("api", &[(3, 1), (4, 0)]).await;
    reporter.report("api", &[(1, 2)]).await;
    let expected = Load { successful: 8, errors: 3, issued: 11, ..Load::default() };
    server.until("both reports", |all| all.iter().any(|p| p.clusters.get("api") == Some(&expected))).await;
    let proxy = &server.reports.totals("edge")[0];
    assert_eq!((proxy.node_id.as_str(), proxy.connected), ("envoy-1", true));
    assert!(proxy.last_report.is_some());

    drop(reporter);
    server.until("gone, and not forgotten", |all| all.len() == 1 && !all[0].connected).await;
}

#[tokio::test]
async fn only_clusters_of_the_configuration_are_shown() {
    let server = Server::start(LoadLimits::default()).await;
    server.set_clusters(&["api"]);
    let reporter = server.reporter(envoy("envoy-1")).await;
    for cluster in ["made up", "api"] {
        reporter.report(cluster, &[(1, 0)]).await;
    }
    server.until("both clusters", |all| all.iter().any(|proxy| proxy.clusters.len() == 2)).await;
    let shown = server.reports.by_cluster(&server.cache);
    assert_eq!(shown["edge"].keys().collect::<Vec<_>>(), ["api"]);
}

#[tokio::test]
async fn a_client_that_cannot_send_all_is_told_the_clusters_as_they_change() {
    let server = Server::start(LoadLimits::default()).await;
    server.set_clusters(&["a", "b"]);
    let mut reporter = server.reporter(node("grpc", &[])).await;
    let asked = reporter.next().await.unwrap().unwrap();
    assert_eq!((asked.send_all_clusters, asked.clusters), (false, vec!["a".to_owned(), "b".to_owned()]));
    server.set_clusters(&["b", "c"]);
    assert_eq!(reporter.next().await.unwrap().unwrap().clusters, ["b", "c"]);
}

#[tokio::test]
async fn a_stream_without_a_node_or_past_the_limit_is_refused() {
    let server = Server::start(LoadLimits { proxies: 1, ..LoadLimits::default() }).await;
    let mut nobody = server.reporter(Node::default()).await;
    assert_eq!(nobody.next().await.unwrap_err().code(), Code::InvalidArgument);
    let mut first = server.reporter(envoy("first")).await;
    first.next().await.unwrap();
    let mut second = server.reporter(envoy("second")).await;
    assert_eq!(second.next().await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn shutdown_ends_load_reports_too() {
    let server = Server::start(LoadLimits::default()).await;
    let mut reporter = server.reporter(envoy("envoy-1")).await;
    reporter.next().await.unwrap();
    server.stop.send(()).unwrap();
    assert_eq!(reporter.next().await.unwrap(), None);
    // At once, and not when whoever is still connected is given up.
    tokio::time::timeout(PATIENCE, server.served).await.unwrap().unwrap();
}
