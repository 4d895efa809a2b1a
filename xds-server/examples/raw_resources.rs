//! The library on its own: serves made-up resources to every node, and changes one of them when told to.
//!
//! What a control plane with resources of its own has to write, and the server that `make bench` measures against
//! go-control-plane. Each of the clusters has an assignment of three endpoints and a route in a route configuration that
//! all share. Prints `listening ADDRESS`; a line `change` on stdin changes one cluster, and is answered by
//! `changed NAME STARTED TOOK`: nanoseconds since 1970, and nanoseconds until the new snapshot was published. The end of
//! stdin ends it.
//!
//! Not here: any part of the gateway. Settings are one argument, the number of clusters.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::core::v3::address::Address::SocketAddress as Socket;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use envoy_types::pb::google::protobuf::Duration;
use xds_server::discovery::{DiscoveryService, Limits, Registry, SnapshotCache, transport};
use xds_server::snapshot::{Snapshot, SnapshotBuilder};

/// Every node is of this group.
const GROUP: &str = "all";

#[tokio::main]
async fn main() -> Result<()> {
    let argument = std::env::args().nth(1).context("usage: raw_resources CLUSTERS")?;
    let count: usize = argument.parse().context("the number of clusters is no number")?;
    let cache = SnapshotCache::new();
    cache.set(GROUP, Arc::new(snapshot(count)));

    // Thousands of clients connect at once, and all from here.
    let limits = Limits {
        connections_per_address: usize::MAX,
        connection_burst_per_address: 100_000,
        silent_connections: usize::MAX,
        ..Limits::default()
    };
    let service = DiscoveryService::new(cache.clone(), Registry::new(), limits)
        .with_grouping(Arc::new(|_| Ok(GROUP.to_owned())));
    let listener = transport::bind(([127, 0, 0, 1], 0).into())?;
    println!("listening {}", listener.local_addr()?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _stop_at_end = stop;
        follow_orders(&cache, count)
    });
    service.serve_with_listener(listener, async { drop(stopped.await) }).await;
    Ok(())
}

fn follow_orders(cache: &SnapshotCache, count: usize) -> Result<()> {
    for (n, line) in (1..).zip(std::io::stdin().lock().lines()) {
        if line? == "change" {
            let name = cluster_name(n * 7919 % count);
            let (started, clock) = (SystemTime::UNIX_EPOCH.elapsed()?, Instant::now());
            let current = cache.get(GROUP).unwrap_or_default();
            let mut builder = SnapshotBuilder::editing(&current);
            builder.insert_message(&name, &cluster(&name, n));
            cache.set(GROUP, Arc::new(builder.build()));
            let took = clock.elapsed();
            writeln!(std::io::stdout(), "changed {name} {} {}", started.as_nanos(), took.as_nanos())?;
        }
    }
    Ok(())
}

fn snapshot(count: usize) -> Snapshot {
    let mut builder = Snapshot::builder();
    for n in 0..count {
        let name = cluster_name(n);
        builder.insert_message(&name, &cluster(&name, 0)).insert_message(&name, &assignment(&name, n));
    }
    builder.insert_message("routes", &routes(count));
    builder.build()
}

fn cluster_name(n: usize) -> String {
    format!("cluster-{n:06}")
}

/// `edit` makes one differ from the other.
fn cluster(name: &str, edit: usize) -> Cluster {
    let millis = i32::try_from(edit % 1000).unwrap_or_default();
    Cluster {
        name: name.into(),
        connect_timeout: Some(Duration { seconds: 5, nanos: millis * 1_000_000 }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ConfigSource {
                config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
                resource_api_version: ApiVersion::V3.into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn assignment(name: &str, n: usize) -> ClusterLoadAssignment {
    let endpoints = (1..=3).map(|last| endpoint(format!("10.{}.{}.{last}", n / 256 % 256, n % 256)));
    let locality = LocalityLbEndpoints { lb_endpoints: endpoints.collect(), ..Default::default() };
    ClusterLoadAssignment { cluster_name: name.into(), endpoints: vec![locality], ..Default::default() }
}

fn endpoint(address: String) -> LbEndpoint {
    let socket =
        SocketAddress { address, port_specifier: Some(PortSpecifier::PortValue(8080)), ..Default::default() };
    let address = Some(Address { address: Some(Socket(socket)) });
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address, ..Default::default() })),
        ..Default::default()
    }
}

fn routes(count: usize) -> RouteConfiguration {
    let route = |n| Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(format!("/{}/", cluster_name(n)))),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster_name(n))),
            ..Default::default()
        })),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes: (0..count).map(route).collect(),
        ..Default::default()
    };
    RouteConfiguration { name: "routes".into(), virtual_hosts: vec![host], ..Default::default() }
}
