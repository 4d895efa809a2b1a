//! State of the world: whole lists, whole responses for LDS and CDS.

use super::*;

const CDS: &TypeUrl = &TypeUrl::CLUSTER;
const EDS: &TypeUrl = &TypeUrl::ENDPOINT;
const RDS: &TypeUrl = &TypeUrl::ROUTE;

fn peer(snapshot: &Arc<Snapshot>) -> Peer {
    Peer::new(Flavour::StateOfTheWorld, snapshot)
}

#[test]
fn lds_and_cds_come_in_one_response_with_the_full_set() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1 b=1")]));
    let first = one(peer.ask(CDS, &[]));
    assert_eq!(first.resources, ["1", "1"]);
    peer.ack(&first, &[]);
    assert_eq!(one(peer.publish(&snapshot(&[(CDS, "a=2 b=1 c=3")]))).resources, ["2", "1", "3"]);
}

#[test]
fn a_removed_cluster_is_absent_from_the_next_full_set() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1 b=2")]));
    let first = one(peer.ask(CDS, &[]));
    peer.ack(&first, &[]);
    assert_eq!(one(peer.publish(&snapshot(&[(CDS, "b=2")]))).resources, ["2"]);
}

#[test]
fn an_explicit_cds_subscription_gets_its_full_set_only() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1 b=2 c=3")]));
    let first = one(peer.ask(CDS, &["a", "b", "unknown"]));
    assert_eq!(first.resources, ["1", "2"]);
    peer.ack(&first, &["a", "b", "unknown"]);
    assert!(peer.publish(&snapshot(&[(CDS, "a=1 b=2 c=4")])).is_empty());
}

#[test]
fn an_explicit_subscription_followed_by_an_empty_list_unsubscribes() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1")]));
    let first = one(peer.ask(CDS, &["a"]));
    assert!(peer.ack(&first, &[]).is_empty());
    assert!(!peer.status(CDS).is_subscribed());
    assert!(peer.publish(&snapshot(&[(CDS, "a=2")])).is_empty());
}

#[test]
fn an_empty_list_is_no_wildcard_for_other_types() {
    let mut peer = peer(&snapshot(&[(RDS, "a=1"), (EDS, "a=1")]));
    assert!(peer.ask(RDS, &[]).is_empty());
    let first = one(peer.ask(EDS, &["a"]));
    peer.ack(&first, &[]);
    assert!(
        peer.publish(&snapshot(&[(RDS, "a=2"), (EDS, "a=2")])).is_empty(),
        "the ACK's empty list unsubscribed"
    );
}

#[test]
fn an_empty_name_is_no_wildcard() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1")]));
    assert_eq!(one(peer.ask(CDS, &[""])).resources.len(), 0);
}

#[test]
fn rds_and_eds_send_what_changed_and_is_subscribed() {
    let mut peer = peer(&snapshot(&[(RDS, "a=1 b=2 c=3")]));
    let first = one(peer.ask(RDS, &["a", "b"]));
    assert_eq!(first.resources, ["1", "2"]);
    peer.ack(&first, &["a", "b"]);
    assert_eq!(one(peer.publish(&snapshot(&[(RDS, "a=1 b=9 c=9")]))).resources, ["9"]);
}

#[test]
fn a_name_added_to_the_list_is_sent_alone() {
    let mut peer = peer(&snapshot(&[(EDS, "a=1 b=2")]));
    let first = one(peer.ask(EDS, &["a"]));
    assert_eq!(one(peer.ack(&first, &["a", "b"])).resources, ["2"]);
}

#[test]
fn stale_nonce_is_no_ack_but_its_subscriptions_count() {
    let mut peer = peer(&snapshot(&[(EDS, "a=1 b=2")]));
    let first = one(peer.ask(EDS, &["a"]));
    peer.ack(&first, &["a"]);
    let second = one(peer.publish(&snapshot(&[(EDS, "a=5 b=2")])));
    let (responses, answer) = peer.turn(peer.request(EDS, &["a", "b"], &first.nonce, None));
    assert!(responses.is_empty() && answer.is_none());
    assert_eq!(one(peer.ack(&second, &["a", "b"])).resources, ["2"]);
}

#[test]
fn an_unknown_name_waits_where_absence_cannot_be_told() {
    let mut peer = peer(&snapshot(&[]));
    assert!(peer.ask(RDS, &["r"]).is_empty());
    assert_eq!(one(peer.publish(&snapshot(&[(RDS, "r=1")]))).resources, ["1"]);
}

#[test]
fn the_first_wildcard_response_is_sent_even_when_empty() {
    let mut peer = peer(&snapshot(&[]));
    assert_eq!(one(peer.ask(CDS, &[])).resources.len(), 0);
}

#[test]
fn a_nack_is_recorded_and_not_answered_by_a_resend() {
    let mut peer = peer(&snapshot(&[(CDS, "a=bad")]));
    let first = one(peer.ask(CDS, &[]));
    assert!(peer.nack(&first, &[]).is_empty());
    assert!(peer.ask(CDS, &[]).is_empty(), "asking again for the same is no reason either");
    assert_eq!(peer.status(CDS).rejected, 1);
    let good = one(peer.publish(&snapshot(&[(CDS, "a=good")])));
    peer.ack(&good, &[]);
    assert_eq!((peer.status(CDS).acked.as_deref(), peer.status(CDS).rejected), (Some(&*good.version), 0));
}

#[test]
fn an_ack_is_never_answered() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1"), (RDS, "r=1")]));
    let cds = one(peer.ask(CDS, &[]));
    let rds = one(peer.ask(RDS, &["r"]));
    assert!(peer.ack(&cds, &[]).is_empty());
    assert!(peer.ack(&rds, &["r"]).is_empty());
}

#[test]
fn a_request_of_the_other_flavour_ends_the_stream() {
    let mut peer = peer(&snapshot(&[]));
    let refused =
        peer.session.on_request(Request::Delta(DeltaDiscoveryRequest::default()), SystemTime::UNIX_EPOCH);
    assert_eq!(refused.unwrap_err(), Refusal::WrongFlavour);
}

#[test]
fn a_name_dropped_under_a_wildcard_stays_refused() {
    let mut peer = peer(&snapshot(&[(RDS, "a=bad b=1")]));
    let first = one(peer.ask(RDS, &["*", "b"]));
    peer.nack(&first, &["*", "b"]);
    assert!(peer.ask(RDS, &["*"]).is_empty());
    assert_eq!(one(peer.publish(&snapshot(&[(RDS, "a=good b=1")]))).resources, ["good", "1"]);
}

#[test]
fn a_part_of_a_set_does_not_resume_as_the_whole() {
    let content = snapshot(&[(CDS, "a=1 b=2")]);
    let part = one(peer(&content).ask(CDS, &["a"]));
    let request =
        DiscoveryRequest { type_url: CDS.to_string(), version_info: part.version, ..Default::default() };
    assert_eq!(one(peer(&content).send(Request::StateOfTheWorld(request))).resources, ["1", "2"]);
}
