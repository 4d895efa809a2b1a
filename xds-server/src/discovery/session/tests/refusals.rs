//! What was refused waits for its successor: nothing else that happens meanwhile sends it again.

use super::*;

const CDS: &TypeUrl = &TypeUrl::CLUSTER;
const RDS: &TypeUrl = &TypeUrl::ROUTE;
const RTDS: &TypeUrl = &TypeUrl::RUNTIME;

/// A delta client that refused its routes, and clusters `x` and `y`, of which it has an older version.
fn refusing() -> Peer {
    let mut peer = Peer::new(Flavour::Delta, &snapshot(&[(CDS, "x=1 y=1 z=1"), (RDS, "r=1"), (RTDS, "l=1")]));
    for (type_url, name) in [(CDS, "*"), (RDS, "r"), (RTDS, "l")] {
        let first = one(peer.ask(type_url, &[name]));
        assert!(peer.ack(&first, &[]).is_empty());
    }
    let bad = snapshot(&[(CDS, "x=bad y=bad z=1"), (RDS, "r=bad"), (RTDS, "l=1")]);
    let sent = peer.publish(&bad);
    assert_eq!(short(&sent), ["CDS x=bad y=bad", "RDS r=bad"]);
    assert!(sent.iter().all(|seen| peer.nack(seen, &[]).is_empty()));
    peer
}

#[test]
fn what_is_refused_is_sent_once_while_the_removal_of_another_refused_is_withheld() {
    let mut peer = refusing();
    // `x` was refused with `y`, so `y` may pass without it. The routes are refused, so `x` may still be needed.
    let again = one(peer.publish(&snapshot(&[(CDS, "y=bad z=1"), (RDS, "r=bad"), (RTDS, "l=1")])));
    assert_eq!(short(std::slice::from_ref(&again)), ["CDS y=bad"]);
    assert_eq!(peer.nack(&again, &[]), [], "a refusal is not answered with the same again");

    let runtime = one(peer.publish(&snapshot(&[(CDS, "y=bad z=1"), (RDS, "r=bad"), (RTDS, "l=2")])));
    assert_eq!(short(std::slice::from_ref(&runtime)), ["RTDS l=2"], "another type changed");
    assert_eq!(peer.ack(&runtime, &[]), [], "another type was answered");
    assert_eq!(peer.ask(RTDS, &["new"]).len(), 1);
    let other = one(peer.publish(&snapshot(&[(CDS, "y=bad z=2"), (RDS, "r=bad"), (RTDS, "l=2")])));
    assert_eq!(short(std::slice::from_ref(&other)), ["CDS z=2"], "another cluster changed");
    assert_eq!(peer.ack(&other, &[]), []);
    assert_eq!(peer.status(CDS).rejected, 1);

    // Mended: the routes first, then the removal that they held up.
    let routes = one(peer.publish(&snapshot(&[(CDS, "y=bad z=2"), (RDS, "r=2"), (RTDS, "l=2")])));
    assert_eq!(short(&peer.ack(&routes, &[])), ["CDS -x"]);
}

#[test]
fn what_was_accepted_without_the_removed_is_not_sent_again_with_its_removal() {
    let mut peer = refusing();
    let again = one(peer.publish(&snapshot(&[(CDS, "y=bad z=1"), (RDS, "r=bad"), (RTDS, "l=1")])));
    assert_eq!(peer.ack(&again, &[]), []);
    let routes = one(peer.publish(&snapshot(&[(CDS, "y=bad z=1"), (RDS, "r=2"), (RTDS, "l=1")])));
    assert_eq!(short(&peer.ack(&routes, &[])), ["CDS -x"]);
}

#[test]
fn a_state_of_the_world_client_gets_what_it_refused_again_only_with_a_change() {
    let all = |clusters: &'static str, runtime: &'static str| {
        snapshot(&[(CDS, clusters), (RDS, "r=bad s=bad"), (RTDS, runtime)])
    };
    let mut peer = Peer::new(Flavour::StateOfTheWorld, &all("x=bad y=bad", "l=1"));
    let clusters = one(peer.ask(CDS, &[]));
    let routes = one(peer.ask(RDS, &["r", "s"]));
    let runtime = one(peer.ask(RTDS, &["l"]));
    assert!(peer.nack(&clusters, &[]).is_empty() && peer.nack(&routes, &["r", "s"]).is_empty());
    assert!(peer.ack(&runtime, &["l"]).is_empty());

    let runtime = one(peer.publish(&all("x=bad y=bad", "l=2")));
    assert_eq!(short(std::slice::from_ref(&runtime)), ["RTDS 2"]);
    assert!(peer.ack(&runtime, &["l"]).is_empty());
    // A removal is a change of the whole list; refused again, it is not repeated.
    let clusters = one(peer.publish(&all("y=bad", "l=2")));
    assert_eq!(short(std::slice::from_ref(&clusters)), ["CDS bad"]);
    assert!(peer.nack(&clusters, &[]).is_empty());
    assert!(peer.nack(&routes, &["r", "s"]).is_empty(), "stale");
    let runtime = one(peer.publish(&all("y=bad", "l=3")));
    assert_eq!(short(std::slice::from_ref(&runtime)), ["RTDS 3"]);
    assert!(peer.ack(&runtime, &["l"]).is_empty());
}
