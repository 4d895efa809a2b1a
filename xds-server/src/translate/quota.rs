//! The cluster by which Envoys reach the quota service. What they ask of it is the filters' configuration (`filter`).

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as EnvoyCluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};

use super::{any, cluster, endpoint, proto};
use crate::gateway::model::Endpoint;
use crate::gateway::scalar::{Address, Duration};

/// Its name. No name in the YAML holds a slash, so none is ever like it.
pub(super) const CLUSTER: &str = "tollgate/quota";

/// A server that died without a word is found: it may hold a call that tells what was revoked.
const KEEPALIVE: Duration = Duration::from_millis(1_000);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// Where Envoys ask for the tokens of limits with `scope: global`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaService {
    /// Where Envoys reach it.
    pub address: Address,
    /// How long they wait for an answer.
    pub timeout: std::time::Duration,
}

/// The cluster.
pub(super) fn cluster(service: &QuotaService) -> EnvoyCluster {
    let address = &service.address;
    let discovery = if address.ip().is_some() { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    let endpoint = Endpoint { address: address.clone(), weight: 1 };
    EnvoyCluster {
        name: CLUSTER.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        load_assignment: Some(endpoint::load_assignment(CLUSTER, &[endpoint])),
        connect_timeout: proto::duration(CONNECT_TIMEOUT),
        typed_extension_protocol_options: HashMap::from([(
            cluster::HTTP_OPTIONS.into(),
            any(&cluster::kept_alive(KEEPALIVE)),
        )]),
        ..EnvoyCluster::default()
    }
}
