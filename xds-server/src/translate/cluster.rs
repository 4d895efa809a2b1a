//! Clusters → Cluster (CDS).

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers as EnvoyCircuitBreakers, Cluster as EnvoyCluster,
    OutlierDetection as EnvoyOutlierDetection,
};
use envoy_types::pb::envoy::config::core::v3::health_check::{
    HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::config::core::v3::{
    HealthCheck as EnvoyHealthCheck, Http1ProtocolOptions, Http2ProtocolOptions,
    HttpProtocolOptions as CommonOptions, KeepaliveSettings,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::envoy::r#type::v3::CodecClientType;

use super::{any, endpoint, proto, tls};
use crate::gateway::model::{
    CircuitBreakers, Cluster, HealthCheck, LoadBalancing, OutlierDetection, Protocol,
};
use crate::gateway::scalar::{Duration, Name};

/// Key of the HTTP options in a cluster's extension options.
pub(super) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Bytes buffered per connection, as Envoy's best practices for an edge proxy have it.
pub(super) const BUFFER_LIMIT: u32 = 32 * 1024;

/// Idle upstream connections are closed before servers with the usual 30 s or more close them, so that no
/// request meets a connection on its way out.
const UPSTREAM_IDLE: Duration = Duration::from_millis(15_000);

/// Whether the endpoints come over EDS. DNS names don't: Envoy resolves them.
pub(super) fn is_eds(cluster: &Cluster) -> bool {
    cluster.endpoints.iter().all(|endpoint| endpoint.address.ip().is_some())
}

/// The cluster.
pub(super) fn cluster(name: &Name, cluster: &Cluster) -> EnvoyCluster {
    let eds = is_eds(cluster);
    let discovery = if eds { DiscoveryType::Eds } else { DiscoveryType::StrictDns };
    EnvoyCluster {
        name: name.as_str().to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        eds_cluster_config: eds
            .then(|| EdsClusterConfig { eds_config: proto::ads(), ..EdsClusterConfig::default() }),
        load_assignment: (!eds).then(|| endpoint::load_assignment(name.as_str(), &cluster.endpoints)),
        connect_timeout: proto::duration(cluster.connect_timeout),
        per_connection_buffer_limit_bytes: proto::uint32(BUFFER_LIMIT),
        lb_policy: match cluster.load_balancing {
            LoadBalancing::RoundRobin => LbPolicy::RoundRobin,
            LoadBalancing::LeastRequest => LbPolicy::LeastRequest,
            LoadBalancing::Random => LbPolicy::Random,
        }
        .into(),
        health_checks: cluster
            .health_check
            .iter()
            .map(|check| health_check(check, cluster.protocol))
            .collect(),
        outlier_detection: cluster.outlier_detection.as_ref().map(outlier_detection),
        circuit_breakers: cluster.circuit_breakers.as_ref().map(circuit_breakers),
        typed_extension_protocol_options: HashMap::from([(
            HTTP_OPTIONS.into(),
            any(&http_options(cluster.protocol)),
        )]),
        transport_socket: cluster.tls.as_ref().map(|tls| tls::upstream(cluster, tls)),
        // An endpoint taken out of the YAML gets no more requests, however well it is.
        ignore_health_on_host_removal: true,
        ..EnvoyCluster::default()
    }
}

pub(super) fn http_options(protocol: Protocol) -> HttpProtocolOptions {
    options(match protocol {
        Protocol::Http1 => ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        Protocol::Http2 => ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default()),
    })
}

/// HTTP/2 with a ping each `interval`, to be answered within as much.
pub(super) fn kept_alive(interval: Duration) -> HttpProtocolOptions {
    options(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions {
        connection_keepalive: Some(KeepaliveSettings {
            interval: proto::duration(interval),
            timeout: proto::duration(interval),
            ..KeepaliveSettings::default()
        }),
        ..Http2ProtocolOptions::default()
    }))
}

fn options(config: ProtocolConfig) -> HttpProtocolOptions {
    HttpProtocolOptions {
        common_http_protocol_options: Some(CommonOptions {
            idle_timeout: proto::duration(UPSTREAM_IDLE),
            ..CommonOptions::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })),
        ..HttpProtocolOptions::default()
    }
}

fn health_check(check: &HealthCheck, protocol: Protocol) -> EnvoyHealthCheck {
    let codec = match protocol {
        Protocol::Http1 => CodecClientType::Http1,
        Protocol::Http2 => CodecClientType::Http2,
    };
    EnvoyHealthCheck {
        timeout: proto::duration(check.timeout),
        interval: proto::duration(check.interval),
        // Envoy would wait a minute between checks of a cluster that has had no traffic yet.
        no_traffic_interval: proto::duration(check.interval),
        interval_jitter_percent: 10,
        unhealthy_threshold: proto::uint32(check.unhealthy_threshold),
        healthy_threshold: proto::uint32(check.healthy_threshold),
        health_checker: Some(match &check.http {
            Some(path) => HealthChecker::HttpHealthCheck(HttpHealthCheck {
                path: path.as_str().to_owned(),
                codec_client_type: codec.into(),
                ..HttpHealthCheck::default()
            }),
            None => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
        }),
        ..EnvoyHealthCheck::default()
    }
}

fn outlier_detection(outliers: &OutlierDetection) -> EnvoyOutlierDetection {
    EnvoyOutlierDetection {
        consecutive_5xx: proto::uint32(outliers.consecutive_5xx),
        interval: proto::duration(outliers.interval),
        base_ejection_time: proto::duration(outliers.base_ejection_time),
        max_ejection_percent: proto::uint32(outliers.max_ejection_percent),
        always_eject_one_host: proto::boolean(outliers.max_ejection_percent > 0),
        ..EnvoyOutlierDetection::default()
    }
}

fn circuit_breakers(breakers: &CircuitBreakers) -> EnvoyCircuitBreakers {
    let thresholds = Thresholds {
        max_connections: breakers.max_connections.and_then(proto::uint32),
        max_pending_requests: breakers.max_pending_requests.and_then(proto::uint32),
        max_requests: breakers.max_requests.and_then(proto::uint32),
        max_retries: breakers.max_retries.and_then(proto::uint32),
        ..Thresholds::default()
    };
    EnvoyCircuitBreakers { thresholds: vec![thresholds], ..EnvoyCircuitBreakers::default() }
}
