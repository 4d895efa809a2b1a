//! Times to live: what a client holds for a while only is kept alive, and nothing else is said of it.

use std::time::{Duration, Instant};

use super::*;

const CDS: &TypeUrl = &TypeUrl::CLUSTER;
const RTDS: &TypeUrl = &TypeUrl::RUNTIME;
const TTL: Duration = Duration::from_secs(30);
const THIRD: Duration = Duration::from_secs(10);

/// As [`snapshot`], with resources for [`TTL`] beside those for ever.
fn mixed(forever: &[(&TypeUrl, &str)], expiring: &[(&TypeUrl, &str)]) -> Arc<Snapshot> {
    let mut builder = Snapshot::builder();
    for (type_url, resources) in forever {
        fill(&mut builder, type_url, resources);
    }
    for (type_url, resources) in expiring {
        for resource in resources.split_whitespace() {
            let (name, body) = resource.split_once('=').unwrap();
            let resource = Resource::expiring(type_url, name, body, TTL, body.as_bytes());
            builder.insert_resource(type_url, Arc::new(resource));
        }
    }
    Arc::new(builder.build())
}

fn beat(peer: &mut Peer, now: Instant) -> (Vec<Seen>, Option<Instant>) {
    let (responses, due) = peer.session.heartbeats(now);
    (responses.iter().map(Seen::new).collect(), due)
}

/// A client that holds the runtime layers of this snapshot.
fn holding(flavour: Flavour, snapshot: &Arc<Snapshot>, names: &[&str]) -> Peer {
    let mut peer = Peer::new(flavour, snapshot);
    let first = one(peer.ask(RTDS, names));
    assert!(peer.ack(&first, names).is_empty());
    peer
}

const FLAVOURS: [Flavour; 2] = [Flavour::StateOfTheWorld, Flavour::Delta];

#[test]
fn nothing_that_stays_for_ever_has_a_heartbeat_or_a_timer() {
    let start = Instant::now();
    for flavour in FLAVOURS {
        let mut peer = holding(flavour, &mixed(&[(RTDS, "a=1")], &[(RTDS, "b=1"), (CDS, "c=1")]), &["a"]);
        assert_eq!(beat(&mut peer, start), (vec![], None));
        assert_eq!(beat(&mut peer, start + 100 * TTL), (vec![], None), "{flavour:?}");
    }
}

#[test]
fn a_heartbeat_comes_every_third_of_the_time_and_is_no_push() {
    for flavour in FLAVOURS {
        let start = Instant::now();
        let mut peer = holding(flavour, &mixed(&[(RTDS, "a=1")], &[(RTDS, "b=1")]), &["a", "b"]);
        let status = peer.status(RTDS);
        assert_eq!(beat(&mut peer, start), (vec![], Some(start + THIRD)));
        assert_eq!(beat(&mut peer, start + THIRD / 2), (vec![], Some(start + THIRD)));
        for n in 1..4 {
            let now = start + n * THIRD;
            let (sent, due) = beat(&mut peer, now);
            let sent = one(sent);
            let expected = if flavour == Flavour::Delta { "b=~1" } else { "1" };
            assert_eq!(
                (&*sent.resources, due),
                (&[expected.to_owned()][..], None),
                "nothing before its answer"
            );
            assert_eq!(beat(&mut peer, now + TTL), (vec![], None));
            let names: &[&str] = if flavour == Flavour::Delta { &[] } else { &["a", "b"] };
            let (responses, answer) = peer.turn(peer.request(RTDS, names, &sent.nonce, None));
            assert!(responses.is_empty() && answer.is_none());
            assert_eq!(beat(&mut peer, now), (vec![], Some(now + THIRD)));
        }
        assert_eq!(peer.status(RTDS), status, "{flavour:?}");
    }
}

#[test]
fn state_of_the_world_clusters_are_sent_whole_since_silence_removes_them() {
    let mut peer = Peer::new(Flavour::StateOfTheWorld, &mixed(&[(CDS, "a=1")], &[(CDS, "b=2")]));
    let first = one(peer.ask(CDS, &[]));
    peer.ack(&first, &[]);
    let now = Instant::now();
    beat(&mut peer, now);
    let again = one(beat(&mut peer, now + THIRD).0);
    assert_eq!(again.resources, ["1", "2"]);
    assert_eq!(peer.status(CDS).sent.unwrap().1.as_ref(), first.nonce, "it is no push");
    assert!(peer.ack(&again, &[]).is_empty());
    assert_eq!(beat(&mut peer, now + THIRD), (vec![], Some(now + 2 * THIRD)));
}

#[test]
fn a_client_that_has_lost_a_resource_gets_it_again_and_nobody_is_told_of_a_refusal() {
    for (flavour, names) in [(Flavour::Delta, &[][..]), (Flavour::StateOfTheWorld, &["a"])] {
        let mut peer = holding(flavour, &mixed(&[], &[(RTDS, "a=1")]), &["a"]);
        let now = Instant::now();
        beat(&mut peer, now);
        let late = one(beat(&mut peer, now + 2 * TTL).0);
        let (responses, answer) = peer.turn(peer.request(RTDS, names, &late.nonce, Some("what is this")));
        assert_eq!(answer, None);
        let again = one(responses);
        assert!(again.resources[0].ends_with('1') && !again.resources[0].contains('~'), "{again:?}");
        assert_eq!((peer.status(RTDS).nack, peer.status(RTDS).rejected), (None, 0));
        // Refused in full, it is refused as any other.
        assert_eq!(peer.nack(&again, names), []);
        assert_eq!(peer.status(RTDS).rejected, 1);
        assert_eq!(beat(&mut peer, now + 9 * TTL), (vec![], None), "it does not hold that version");
    }
}

#[test]
fn what_is_unsubscribed_or_removed_is_not_kept_alive() {
    let mut peer = holding(Flavour::Delta, &mixed(&[], &[(RTDS, "a=1 b=1")]), &["a", "b"]);
    let now = Instant::now();
    beat(&mut peer, now);
    peer.unsubscribe(RTDS, &["b"]);
    let heartbeat = one(beat(&mut peer, now + THIRD).0);
    assert_eq!(heartbeat.resources, ["a=~1"]);
    assert_eq!(peer.publish(&mixed(&[], &[(RTDS, "b=1")])), [], "the heartbeat is unanswered");
    assert_eq!(short(&peer.ack(&heartbeat, &[])), ["RTDS -a"]);
    assert_eq!(beat(&mut peer, now + TTL), (vec![], None));
}

#[test]
fn a_reconnecting_client_is_sent_anew_what_may_expire() {
    let content = mixed(&[(RTDS, "a=1")], &[(RTDS, "b=1")]);
    let mut peer = Peer::new(Flavour::Delta, &content);
    let held = [("a", "1"), ("b", "1")].map(|(name, version)| (name.to_owned(), version.to_owned()));
    let request = DeltaDiscoveryRequest {
        type_url: RTDS.to_string(),
        resource_names_subscribe: strings(&["a", "b"]),
        initial_resource_versions: held.into(),
        ..Default::default()
    };
    assert_eq!(short(&peer.send(Request::Delta(request))), ["RTDS b=1"]);
}
