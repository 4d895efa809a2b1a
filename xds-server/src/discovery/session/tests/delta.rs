//! Delta: subscriptions, ACKs and NACKs, removals.

use super::*;

const CDS: &TypeUrl = &TypeUrl::CLUSTER;
const EDS: &TypeUrl = &TypeUrl::ENDPOINT;
const RDS: &TypeUrl = &TypeUrl::ROUTE;

fn peer(snapshot: &Arc<Snapshot>) -> Peer {
    Peer::new(Flavour::Delta, snapshot)
}

#[test]
fn an_empty_first_request_is_a_wildcard_for_lds_and_cds_only() {
    let content = snapshot(&[(CDS, "a=1"), (&TypeUrl::LISTENER, "l=1"), (RDS, "r=1"), (EDS, "a=1")]);
    let mut peer = peer(&content);
    assert_eq!(short(&peer.ask(CDS, &[])), ["CDS a=1"]);
    assert_eq!(short(&peer.ask(&TypeUrl::LISTENER, &[])), ["LDS l=1"]);
    assert!(peer.ask(RDS, &[]).is_empty());
    assert!(peer.ask(EDS, &[]).is_empty());
}

#[test]
fn a_star_is_a_wildcard_for_any_type() {
    let any = TypeUrl::new("type.example/thing");
    let mut peer = peer(&snapshot(&[(&any, "a=1 b=2")]));
    assert_eq!(short(&peer.ask(&any, &["*"])), ["other a=1 b=2"]);
}

#[test]
fn an_empty_name_is_no_wildcard() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1")]));
    assert_eq!(short(&peer.ask(CDS, &[""])), ["CDS -"]);
}

#[test]
fn the_first_wildcard_response_is_sent_even_when_empty() {
    let mut peer = peer(&snapshot(&[]));
    let empty = one(peer.ask(CDS, &["*"]));
    assert_eq!(short(std::slice::from_ref(&empty)), ["CDS"]);
    assert!(peer.ack(&empty, &[]).is_empty());
}

#[test]
fn an_unknown_name_is_answered_as_removed_and_sent_once_it_exists() {
    let mut peer = peer(&snapshot(&[]));
    let removed = one(peer.ask(RDS, &["r"]));
    assert_eq!(short(std::slice::from_ref(&removed)), ["RDS -r"]);
    peer.ack(&removed, &[]);
    assert_eq!(short(&peer.publish(&snapshot(&[(RDS, "r=1")]))), ["RDS r=1"]);
}

#[test]
fn a_name_subscribed_again_is_sent_again() {
    let mut peer = peer(&snapshot(&[(RDS, "r=1 s=1")]));
    let first = one(peer.ask(RDS, &["r", "s"]));
    peer.ack(&first, &[]);
    assert_eq!(short(&peer.ask(RDS, &["r"])), ["RDS r=1"]);
}

#[test]
fn only_what_changed_and_is_wanted_is_sent() {
    let mut peer = peer(&snapshot(&[(RDS, "a=1 b=1 c=1")]));
    let first = one(peer.ask(RDS, &["a", "b"]));
    peer.ack(&first, &[]);
    assert_eq!(short(&peer.publish(&snapshot(&[(RDS, "a=1 b=2 c=2")]))), ["RDS b=2"]);
}

#[test]
fn an_ack_is_never_answered() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1")]));
    let first = one(peer.ask(CDS, &["*"]));
    let (responses, answer) = peer.turn(peer.request(CDS, &[], &first.nonce, None));
    assert!(responses.is_empty());
    assert!(matches!(answer, Some(Answer::Ack { version, .. }) if *version == *first.version));
    let (_, again) = peer.turn(peer.request(CDS, &[], &first.nonce, None));
    assert_eq!(again, None, "one response has one answer");
}

#[test]
fn a_spontaneous_request_carries_no_nonce_and_is_no_ack() {
    let mut peer = peer(&snapshot(&[(RDS, "a=1 b=1")]));
    let first = one(peer.ask(RDS, &["a"]));
    assert!(peer.ask(RDS, &["b"]).is_empty(), "the first response is unanswered");
    assert_eq!(peer.status(RDS).acked, None);
    assert_eq!(short(&peer.ack(&first, &[])), ["RDS b=1"]);
}

#[test]
fn stale_nonce_is_no_ack_but_its_subscriptions_count() {
    let mut peer = peer(&snapshot(&[(RDS, "a=1 b=1")]));
    let first = one(peer.ask(RDS, &["a"]));
    peer.ack(&first, &[]);
    let second = one(peer.publish(&snapshot(&[(RDS, "a=2 b=2")])));
    let (responses, answer) = peer.turn(peer.request(RDS, &["b"], &first.nonce, None));
    assert!(responses.is_empty() && answer.is_none());
    assert_eq!(short(&peer.ack(&second, &[])), ["RDS b=2"]);
}

#[test]
fn nonces_are_counted_per_type() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1"), (RDS, "r=1")]));
    let cds = one(peer.ask(CDS, &["*"]));
    let rds = one(peer.ask(RDS, &["r"]));
    assert_eq!((cds.nonce.as_str(), rds.nonce.as_str()), ("1", "1"));
    peer.ack(&rds, &[]);
    assert_eq!((peer.status(CDS).acked.is_some(), peer.status(RDS).acked.is_some()), (false, true));
}

#[test]
fn a_nack_is_recorded_and_not_answered_by_a_resend() {
    let mut peer = peer(&snapshot(&[(CDS, "a=bad b=1")]));
    let first = one(peer.ask(CDS, &["*"]));
    assert!(peer.nack(&first, &[]).is_empty());
    let status = peer.status(CDS);
    let nack = status.nack.unwrap();
    assert_eq!(
        (&*nack.version, nack.message.as_str(), nack.at),
        (&*first.version, "no good", SystemTime::UNIX_EPOCH)
    );
    assert_eq!((status.acked, status.rejected), (None, 2));
}

#[test]
fn what_shared_a_refused_response_goes_out_again_with_the_culprits_successor() {
    let mut peer = peer(&snapshot(&[(CDS, "a=bad b=1")]));
    let first = one(peer.ask(CDS, &["*"]));
    peer.nack(&first, &[]);
    let unrelated = one(peer.publish(&snapshot(&[(CDS, "a=bad b=1 c=1")])));
    assert_eq!(short(std::slice::from_ref(&unrelated)), ["CDS c=1"], "the refused ones are not repeated");
    peer.ack(&unrelated, &[]);
    assert_eq!(peer.status(CDS).acked, None, "an ACK of something else does not cover what was refused");
    let good = one(peer.publish(&snapshot(&[(CDS, "a=good b=1 c=1")])));
    assert_eq!(short(std::slice::from_ref(&good)), ["CDS a=good b=1"]);
    peer.ack(&good, &[]);
    assert_eq!((peer.status(CDS).acked.as_deref(), peer.status(CDS).rejected), (Some(&*good.version), 0));
}

#[test]
fn changes_behind_an_unanswered_response_coalesce() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1 b=1")]));
    let first = one(peer.ask(CDS, &["*"]));
    assert!(peer.publish(&snapshot(&[(CDS, "a=2 b=1 c=1")])).is_empty());
    assert!(peer.publish(&snapshot(&[(CDS, "a=3 b=1")])).is_empty());
    assert_eq!(short(&peer.ack(&first, &[])), ["CDS a=3"]);
}

#[test]
fn a_change_taken_back_while_unanswered_is_never_sent() {
    let before = snapshot(&[(CDS, "a=1")]);
    let mut peer = peer(&before);
    let first = one(peer.ask(CDS, &["*"]));
    peer.publish(&snapshot(&[(CDS, "a=2")]));
    peer.publish(&before);
    assert!(peer.ack(&first, &[]).is_empty());
}

#[test]
fn a_removed_resource_is_announced_once() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1 b=1")]));
    let first = one(peer.ask(CDS, &["*"]));
    peer.ack(&first, &[]);
    let removed = one(peer.publish(&snapshot(&[(CDS, "a=1")])));
    assert_eq!(short(std::slice::from_ref(&removed)), ["CDS -b"]);
    assert!(peer.ack(&removed, &[]).is_empty());
    assert_eq!(short(&peer.publish(&snapshot(&[(CDS, "a=2")]))), ["CDS a=2"]);
}

#[test]
fn what_is_unsubscribed_is_not_sent_and_not_announced() {
    let mut peer = peer(&snapshot(&[(RDS, "a=1 b=1")]));
    let first = one(peer.ask(RDS, &["a", "b"]));
    peer.ack(&first, &[]);
    assert!(peer.unsubscribe(RDS, &["a"]).is_empty());
    assert!(peer.publish(&snapshot(&[(RDS, "b=1")])).is_empty());
    assert!(peer.publish(&snapshot(&[(RDS, "a=2 b=1")])).is_empty());
}

#[test]
fn a_name_dropped_under_a_wildcard_is_told_again() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1 b=1")]));
    let first = one(peer.ask(CDS, &["*", "a", "unknown"]));
    peer.ack(&first, &[]);
    let told = one(peer.unsubscribe(CDS, &["a"]));
    assert_eq!(short(std::slice::from_ref(&told)), ["CDS a=1"], "the wildcard still covers it");
    peer.ack(&told, &[]);
    assert_eq!(short(&peer.unsubscribe(CDS, &["unknown"])), ["CDS -unknown"]);
}

#[test]
fn an_unsubscribed_wildcard_leaves_the_explicit_names() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1 b=1")]));
    let first = one(peer.ask(CDS, &["*", "a"]));
    peer.ack(&first, &[]);
    assert!(peer.unsubscribe(CDS, &["*"]).is_empty());
    assert_eq!(short(&peer.publish(&snapshot(&[(CDS, "a=2 b=2")]))), ["CDS a=2"]);
}

#[test]
fn a_wildcard_added_later_sends_everything() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1 b=1")]));
    let first = one(peer.ask(CDS, &["a"]));
    peer.ack(&first, &[]);
    assert_eq!(short(&peer.ask(CDS, &["*"])), ["CDS a=1 b=1"]);
}

#[test]
fn a_group_without_snapshot_waits_and_is_served_once_it_exists() {
    let mut session = Session::new(Flavour::Delta, Scope::Aggregated, SessionLimits::default());
    let request = DeltaDiscoveryRequest { type_url: CDS.to_string(), ..Default::default() };
    let turn = session.on_request(Request::Delta(request), SystemTime::UNIX_EPOCH).unwrap();
    assert!(turn.responses.is_empty());
    assert_eq!(session.on_snapshot(Some(snapshot(&[(CDS, "a=1")]))).len(), 1);
}

#[test]
fn a_cleared_snapshot_takes_nothing_away() {
    let content = snapshot(&[(CDS, "a=1 b=1")]);
    let mut peer = peer(&content);
    let first = one(peer.ask(CDS, &["*"]));
    peer.ack(&first, &[]);
    assert!(peer.session.on_snapshot(None).is_empty());
    assert_eq!(short(&peer.publish(&snapshot(&[(CDS, "a=2 b=1")]))), ["CDS a=2"]);
}

#[test]
fn an_unwanted_change_counts_as_held() {
    let mut peer = peer(&snapshot(&[(RDS, "a=1 b=1")]));
    let first = one(peer.ask(RDS, &["a"]));
    peer.ack(&first, &[]);
    let next = snapshot(&[(RDS, "a=1 b=2")]);
    assert!(peer.publish(&next).is_empty());
    assert_eq!(peer.status(RDS).acked.as_ref(), Some(next.set(RDS).version()));
}

#[test]
fn a_wildcard_clients_change_is_the_shared_one() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1 b=1")]));
    let first = one(peer.ask(CDS, &["*"]));
    peer.ack(&first, &[]);
    let responses = peer.session.on_snapshot(Some(snapshot(&[(CDS, "a=2 b=1")])));
    assert!(matches!(&responses[0].payload, Payload::Changed(changes) if changes.changed.len() == 1));
}

#[test]
fn limits_end_the_stream() {
    let limits = SessionLimits { types: 1, subscription_bytes: 100, ..SessionLimits::default() };
    let mut session = Session::new(Flavour::Delta, Scope::Aggregated, limits);
    let mut ask = |type_url: &str, names: &[&str]| {
        let request = DeltaDiscoveryRequest {
            type_url: type_url.into(),
            resource_names_subscribe: strings(names),
            ..Default::default()
        };
        session.on_request(Request::Delta(request), SystemTime::UNIX_EPOCH).map(|_| ())
    };
    assert_eq!(ask("", &[]), Err(Refusal::NoType));
    assert_eq!(ask(RDS.as_str(), &["a"]), Ok(()));
    assert_eq!(ask(CDS.as_str(), &["a"]), Err(Refusal::TooManyTypes(1)));
    assert_eq!(ask(RDS.as_str(), &["b", "c", "d"]), Err(Refusal::TooManyNames(100)));
}

#[test]
fn a_stream_of_one_type_serves_no_other() {
    let mut peer = Peer::scoped(Flavour::Delta, Scope::Only(TypeUrl::CLUSTER), &snapshot(&[(CDS, "a=1")]));
    let request = Request::Delta(DeltaDiscoveryRequest { type_url: RDS.to_string(), ..Default::default() });
    let refused = peer.session.on_request(request, SystemTime::UNIX_EPOCH);
    assert!(matches!(refused, Err(Refusal::WrongType { .. })));
    let unnamed = Request::Delta(DeltaDiscoveryRequest::default());
    assert_eq!(short(&peer.send(unnamed)), ["CDS a=1"], "its type may be left out");
}

#[test]
fn a_long_error_message_is_cut() {
    let mut peer = peer(&snapshot(&[(CDS, "a=1")]));
    let first = one(peer.ask(CDS, &["*"]));
    let long = "ü".repeat(10_000);
    peer.turn(peer.request(CDS, &[], &first.nonce, Some(&long)));
    assert_eq!(peer.status(CDS).nack.unwrap().message.len(), 4096);
}

#[test]
fn what_was_refused_with_the_culprit_goes_out_once_the_culprit_is_unsubscribed() {
    let mut peer = peer(&snapshot(&[(RDS, "a=bad b=1")]));
    let first = one(peer.ask(RDS, &["a", "b"]));
    peer.nack(&first, &[]);
    assert_eq!(short(&peer.unsubscribe(RDS, &["a"])), ["RDS b=1"]);
}
