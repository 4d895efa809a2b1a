//! Endpoints → ClusterLoadAssignment (EDS).

use envoy_types::pb::envoy::config::core::v3::Locality;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
};

use super::proto;
use crate::gateway::model::Endpoint;

/// The assignment of a cluster. One without endpoints has an empty one, which Envoy needs to finish warming. gRPC clients
/// refuse a group of endpoints without a locality and pass over one without a weight; to Envoy both say nothing.
pub(super) fn load_assignment(cluster: &str, endpoints: &[Endpoint]) -> ClusterLoadAssignment {
    let locality = LocalityLbEndpoints {
        locality: Some(Locality::default()),
        lb_endpoints: endpoints.iter().map(lb_endpoint).collect(),
        load_balancing_weight: proto::uint32(1),
        ..LocalityLbEndpoints::default()
    };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: if endpoints.is_empty() { Vec::new() } else { vec![locality] },
        ..ClusterLoadAssignment::default()
    }
}

fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let host = EnvoyEndpoint { address: proto::address(&endpoint.address), ..EnvoyEndpoint::default() };
    LbEndpoint {
        load_balancing_weight: proto::uint32(endpoint.weight),
        host_identifier: Some(HostIdentifier::Endpoint(host)),
        ..LbEndpoint::default()
    }
}
