//! Order among types on one aggregated stream, and endpoints sent again for clusters that warm.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};

use super::*;

const CDS: &TypeUrl = &TypeUrl::CLUSTER;
const EDS: &TypeUrl = &TypeUrl::ENDPOINT;
const ECDS: &TypeUrl = &TypeUrl::EXTENSION;
const LDS: &TypeUrl = &TypeUrl::LISTENER;
const RDS: &TypeUrl = &TypeUrl::ROUTE;

/// A delta client that holds all of `snapshot`.
fn settled(snapshot: &Arc<Snapshot>) -> Peer {
    let mut peer = Peer::new(Flavour::Delta, snapshot);
    for (type_url, name) in [(CDS, "*"), (LDS, "*"), (RDS, "*"), (EDS, "*")] {
        let first = one(peer.ask(type_url, &[name]));
        assert!(peer.ack(&first, &[]).is_empty());
    }
    peer
}

#[test]
fn additions_go_out_clusters_first_and_routes_last() {
    let mut peer = settled(&snapshot(&[]));
    let next = snapshot(&[(RDS, "r=1"), (LDS, "l=1"), (EDS, "a=1"), (CDS, "a=1")]);
    assert_eq!(short(&peer.publish(&next)), ["CDS a=1", "EDS a=1", "LDS l=1", "RDS r=1"]);
}

#[test]
fn a_held_extension_configuration_changes_once_its_clusters_are_warm() {
    let mut peer = settled(&snapshot(&[(ECDS, "f=1"), (RDS, "r=1")]));
    let first = one(peer.ask(ECDS, &["f"]));
    assert!(peer.ack(&first, &[]).is_empty());
    let next = snapshot(&[(CDS, "code=2"), (ECDS, "f=2 g=2"), (RDS, "r=2")]);
    let clusters = one(peer.publish(&next));
    assert_eq!(short(std::slice::from_ref(&clusters)), ["CDS code=2"], "routes stay behind extensions");
    assert_eq!(short(&peer.ack(&clusters, &[])), ["ECDS f=2", "RDS r=2"]);
}

#[test]
fn clusters_that_wait_for_a_new_extension_configuration_get_it() {
    let mut peer = settled(&snapshot(&[(ECDS, "f=1")]));
    let first = one(peer.ask(ECDS, &["f"]));
    assert!(peer.ack(&first, &[]).is_empty());
    let clusters = one(peer.publish(&snapshot(&[(CDS, "uses-g=1"), (ECDS, "f=1 g=1")])));
    // Unanswered: it is warm once it has `g`.
    assert_eq!(short(&peer.ask(ECDS, &["g"])), ["ECDS g=1"]);
    assert!(peer.ack(&clusters, &[]).is_empty());
}

#[test]
fn removed_cluster_outlives_its_routes() {
    let mut peer = settled(&snapshot(&[(CDS, "old=1"), (EDS, "old=1"), (RDS, "r=old")]));
    let sent = peer.publish(&snapshot(&[(CDS, "new=1"), (EDS, "new=1"), (RDS, "r=new")]));
    assert_eq!(short(&sent), ["CDS new=1", "EDS new=1", "RDS r=new"]);
    assert!(peer.ack(&sent[0], &[]).is_empty(), "the routes are unanswered");
    assert!(peer.ack(&sent[1], &[]).is_empty());
    let removal = one(peer.ack(&sent[2], &[]));
    assert_eq!(short(std::slice::from_ref(&removal)), ["CDS -old"]);
    let endpoints = one(peer.ack(&removal, &[]));
    assert_eq!(short(&[endpoints]), ["EDS -old"], "endpoints outlive their cluster");
}

#[test]
fn a_cluster_that_comes_back_before_its_removal_was_sent_is_not_removed() {
    let mut peer = settled(&snapshot(&[(CDS, "a=1"), (RDS, "r=1")]));
    let routes = one(peer.publish(&snapshot(&[(RDS, "r=2")])));
    let again = one(peer.publish(&snapshot(&[(CDS, "a=1"), (RDS, "r=2")])));
    assert_eq!(short(std::slice::from_ref(&again)), ["CDS a=1"]);
    peer.ack(&again, &[]);
    assert!(peer.ack(&routes, &[]).is_empty());
}

#[test]
fn routes_wait_while_their_clusters_wait_for_an_ack() {
    let mut peer = settled(&snapshot(&[]));
    let first = one(peer.publish(&snapshot(&[(CDS, "a=1")])));
    assert!(peer.publish(&snapshot(&[(CDS, "a=1 b=1"), (RDS, "r=b")])).is_empty());
    assert_eq!(short(&peer.ack(&first, &[])), ["CDS b=1", "RDS r=b"]);
}

#[test]
fn a_new_subscription_is_answered_while_clusters_wait_for_an_ack() {
    // Envoy withholds the ACK of clusters that wait for their endpoints: waiting for it here would be for ever.
    let mut peer = Peer::new(Flavour::Delta, &snapshot(&[(CDS, "a=1"), (EDS, "a=1")]));
    peer.ask(CDS, &["*"]);
    peer.publish(&snapshot(&[(CDS, "a=1 b=1"), (EDS, "a=1 b=1")]));
    assert_eq!(short(&peer.ask(EDS, &["a"])), ["EDS a=1"]);
}

#[test]
fn types_outside_the_order_wait_for_nobody() {
    let mut peer = settled(&snapshot(&[]));
    let runtime = one(peer.ask(&TypeUrl::RUNTIME, &["*"]));
    peer.ack(&runtime, &[]);
    peer.publish(&snapshot(&[(CDS, "a=1")]));
    let next = snapshot(&[(CDS, "a=2"), (&TypeUrl::RUNTIME, "layer=1")]);
    assert_eq!(short(&peer.publish(&next)), ["RTDS layer=1"]);
}

fn warming(flavour: Flavour) -> (Peer, Arc<Snapshot>) {
    let peer = Peer::new(flavour, &eds_snapshot("1"));
    (peer, eds_snapshot("2"))
}

/// One EDS cluster `c` of assignment `service`, whose content is `version`, and one that does not change.
fn eds_snapshot(version: &str) -> Arc<Snapshot> {
    let mut builder = Snapshot::builder();
    for (name, service, version) in [("c", "service", version), ("still", "other", "1")] {
        let cluster = Cluster {
            name: name.into(),
            alt_stat_name: version.into(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            eds_cluster_config: Some(EdsClusterConfig { service_name: service.into(), ..Default::default() }),
            ..Default::default()
        };
        builder.insert_message(name, &cluster);
        builder.insert_versioned(EDS, service, "1", service.as_bytes());
    }
    Arc::new(builder.build())
}

#[test]
fn endpoints_are_sent_again_for_changed_clusters() {
    for flavour in [Flavour::StateOfTheWorld, Flavour::Delta] {
        let (mut peer, next) = warming(flavour);
        let cds = one(peer.ask(CDS, &["*"]));
        peer.ack(&cds, &["*"]);
        let eds = one(peer.ask(EDS, &["service", "other"]));
        peer.ack(&eds, &["service", "other"]);
        let sent = peer.publish(&next);
        assert_eq!(sent.iter().map(Seen::short).collect::<Vec<_>>(), ["CDS", "EDS"], "{flavour:?}");
        assert!(sent[1].resources.len() == 1 && sent[1].resources[0].contains("service"), "{sent:?}");
    }
}

#[test]
fn endpoints_are_sent_again_on_their_own_stream_too() {
    let mut peer = Peer::scoped(Flavour::Delta, Scope::Only(TypeUrl::ENDPOINT), &eds_snapshot("1"));
    let eds = one(peer.ask(EDS, &["service", "other"]));
    peer.ack(&eds, &[]);
    assert_eq!(short(&peer.publish(&eds_snapshot("2"))), ["EDS service=service"]);
}

#[test]
fn a_reconnecting_client_whose_cluster_changed_gets_its_endpoints_again() {
    let (mut peer, next) = warming(Flavour::Delta);
    let held = |type_url: &TypeUrl, snapshot: &Snapshot| {
        let pairs = snapshot.set(type_url).iter().map(|r| (r.name().to_string(), r.version().to_string()));
        pairs.collect::<HashMap<_, _>>()
    };
    let before = eds_snapshot("1");
    assert!(peer.publish(&next).is_empty());
    let cds = DeltaDiscoveryRequest {
        type_url: CDS.to_string(),
        resource_names_subscribe: strings(&["*"]),
        initial_resource_versions: held(CDS, &before),
        ..Default::default()
    };
    assert_eq!(one(peer.send(Request::Delta(cds))).resources.len(), 1);
    let eds = DeltaDiscoveryRequest {
        type_url: EDS.to_string(),
        resource_names_subscribe: strings(&["service", "other"]),
        initial_resource_versions: held(EDS, &before),
        ..Default::default()
    };
    assert_eq!(short(&peer.send(Request::Delta(eds))), ["EDS service=service"]);
}

#[test]
fn a_client_that_refused_its_new_routes_keeps_the_clusters_of_the_old_ones() {
    let old = snapshot(&[(CDS, "blue=1"), (RDS, "r=blue")]);
    let mut peer = Peer::new(Flavour::Delta, &old);
    let cds = one(peer.ask(CDS, &["*"]));
    peer.ack(&cds, &[]);
    let rds = one(peer.ask(RDS, &["r"]));
    peer.ack(&rds, &[]);

    let sent = peer.publish(&snapshot(&[(CDS, "green=1"), (RDS, "r=green")]));
    assert_eq!(short(&sent), ["CDS green=1", "RDS r=green"]);
    peer.ack(&sent[0], &[]);
    assert_eq!(peer.nack(&sent[1], &[]), [], "it serves by routes to blue");
    let repaired = peer.publish(&snapshot(&[(CDS, "green=1"), (RDS, "r=right")]));
    assert_eq!(short(&repaired), ["RDS r=right"]);
    assert_eq!(short(&peer.ack(&repaired[0], &[])), ["CDS -blue"]);
}
