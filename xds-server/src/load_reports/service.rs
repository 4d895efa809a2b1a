//! The gRPC of load reports: `StreamLoadStats` of `envoy.service.load_stats.v3.LoadReportingService`.
//!
//! The first request names the node, and is answered with what to report and how often; each later one is a report.
//! A client that can report all clusters is asked to; another is told the names of its group's clusters, and told
//! again when they change. Peers, groups and bounds are those of the discovery service, whose connections these
//! streams share.
//!
//! Not here: what is done with the numbers ([`super`]).

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterStats;
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::{
    LoadReportingService, LoadReportingServiceServer,
};
use envoy_types::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::{Load, LoadReports, Report};
use crate::discovery::DiscoveryService;
use crate::proto_time;
use crate::snapshot::TypeUrl;

/// Largest report in bytes: some hundred thousand clusters.
const REPORT_BYTES: usize = 16 << 20;

/// A stream is read no faster than one report in this time, less than the shortest interval that can be set.
const PACE: Duration = Duration::from_millis(50);

/// What a client says in `Node.client_features` that can report clusters without being told their names.
const SENDS_ALL: &str = "envoy.lrs.supports_send_all_clusters";

type Outgoing = Result<LoadStatsResponse, Status>;

/// Receives load reports. Clones are the same service.
#[derive(Debug, Clone)]
pub struct LoadService {
    discovery: DiscoveryService,
    reports: LoadReports,
    interval: Duration,
}

impl LoadService {
    /// Puts what the proxies of `discovery` report, each `interval`, into `reports`.
    pub fn new(discovery: DiscoveryService, reports: LoadReports, interval: Duration) -> LoadService {
        LoadService { discovery, reports, interval }
    }

    /// The gRPC service, to be added to the discovery service's routes.
    pub fn into_server(self) -> LoadReportingServiceServer<LoadService> {
        LoadReportingServiceServer::new(self).max_decoding_message_size(REPORT_BYTES)
    }

    async fn run(
        &self,
        connection: &Extensions,
        mut requests: Streaming<LoadStatsRequest>,
        out: &mpsc::Sender<Outgoing>,
    ) -> Result<(), Status> {
        let limit = self.discovery.limits().first_request;
        let first = tokio::time::timeout(limit, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no request came"))??;
        let Some(LoadStatsRequest { node, cluster_stats }) = first else { return Ok(()) };
        let (node, group) = self.discovery.identify(node, connection)?;
        tokio::select! {
            served = self.take(&node, &group, cluster_stats, requests, out) => served,
            status = self.discovery.until_excluded(&node, &group, connection) => Err(status),
        }
    }

    async fn take(
        &self,
        node: &Node,
        group: &str,
        cluster_stats: Vec<ClusterStats>,
        mut requests: Streaming<LoadStatsRequest>,
        out: &mpsc::Sender<Outgoing>,
    ) -> Result<(), Status> {
        let Some(reporter) = self.reports.open(group, &node.id) else {
            return Err(Status::resource_exhausted("too many proxies report their load"));
        };
        tracing::info!(node = node.id, group, "reports its load");
        let mut warned = false;
        let mut take = |stats: Vec<ClusterStats>| {
            let lost = reporter.report(report(stats));
            if lost > 0 && !std::mem::replace(&mut warned, true) {
                tracing::warn!(
                    node = node.id,
                    group,
                    clusters = lost,
                    "load reports past the limits are not kept"
                );
            }
        };
        if !cluster_stats.is_empty() {
            take(cluster_stats);
        }

        let sends_all = sends_all(node);
        let mut snapshots = self.discovery.cache().watch(group);
        let mut asked = None;
        loop {
            let names: Vec<String> = match snapshots.latest() {
                _ if sends_all => Vec::new(),
                Some(snapshot) => {
                    snapshot.set(&TypeUrl::CLUSTER).iter().map(|r| r.name().to_string()).collect()
                }
                None => Vec::new(),
            };
            if asked.as_ref() != Some(&names) {
                asked = Some(names.clone());
                let response = LoadStatsResponse {
                    clusters: names,
                    send_all_clusters: sends_all,
                    load_reporting_interval: Some(proto_time::duration(self.interval)),
                    report_endpoint_granularity: false,
                };
                if out.send(Ok(response)).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => take(request.cluster_stats),
                    None => return Ok(()),
                },
                () = snapshots.changed(), if !sends_all => {}
            }
            tokio::time::sleep(PACE).await;
        }
    }
}

#[tonic::async_trait]
impl LoadReportingService for LoadService {
    type StreamLoadStatsStream = ReceiverStream<Outgoing>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let permit = self.discovery.admit()?;
        let (_, connection, requests) = request.into_parts();
        let (out, responses) = mpsc::channel(1);
        let service = self.clone();
        tokio::spawn(async move {
            let served = tokio::select! {
                served = service.run(&connection, requests, &out) => served,
                () = out.closed() => Ok(()),
                () = service.discovery.until_ended(&connection) => Ok(()),
            };
            drop(permit);
            if let Err(status) = served {
                tracing::debug!(code = ?status.code(), reason = status.message(), "load reports refused or broken");
                // A peer that has room for nothing more is told by the end alone.
                drop(out.try_send(Err(status)));
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

fn sends_all(node: &Node) -> bool {
    node.client_features.iter().any(|feature| feature == SENDS_ALL)
}

/// The numbers of a request, localities summed up.
fn report(stats: Vec<ClusterStats>) -> Report {
    let period = stats.iter().find_map(|stats| stats.load_report_interval);
    let period = period.map(proto_time::read_duration).unwrap_or_default();
    let clusters = stats.into_iter().map(|stats| {
        let mut load = Load { dropped: stats.total_dropped_requests, ..Load::default() };
        for locality in stats.upstream_locality_stats {
            let add = |sum: &mut u64, number: u64| *sum = sum.saturating_add(number);
            add(&mut load.successful, locality.total_successful_requests);
            add(&mut load.errors, locality.total_error_requests);
            add(&mut load.issued, locality.total_issued_requests);
            add(&mut load.in_progress, locality.total_requests_in_progress);
        }
        (stats.cluster_name, load)
    });
    Report { clusters: clusters.collect(), period }
}
