//! A client that comes back with what it holds is told the difference and nothing else.

use super::*;

const CDS: &TypeUrl = &TypeUrl::CLUSTER;
const RDS: &TypeUrl = &TypeUrl::ROUTE;

/// A first delta request that holds `"name=version"`s.
fn resume(type_url: &TypeUrl, subscribe: &[&str], held: &str) -> Request {
    let held = held.split_whitespace().filter_map(|pair| pair.split_once('='));
    Request::Delta(DeltaDiscoveryRequest {
        type_url: type_url.to_string(),
        resource_names_subscribe: strings(subscribe),
        initial_resource_versions: held.map(|(name, version)| (name.into(), version.into())).collect(),
        ..Default::default()
    })
}

#[test]
fn initial_versions_leave_only_what_differs_or_is_gone() {
    let mut peer = Peer::new(Flavour::Delta, &snapshot(&[(CDS, "a=1 b=2 new=1")]));
    let request = resume(CDS, &["*"], "a=1 b=1 gone=1");
    let differs = one(peer.send(request));
    assert_eq!(short(std::slice::from_ref(&differs)), ["CDS b=2 new=1"]);
    assert_eq!(short(&peer.ack(&differs, &[])), ["CDS -gone"]);
}

#[test]
fn a_resuming_clients_clusters_outlive_the_routes_it_has_yet_to_ask_for() {
    let mut peer = Peer::new(Flavour::Delta, &snapshot(&[(CDS, "new=1"), (RDS, "r=new")]));
    let barrier = one(peer.send(resume(CDS, &["*"], "new=1 old=1")));
    assert_eq!(
        short(std::slice::from_ref(&barrier)),
        ["CDS"],
        "empty: its ACK tells that the other types asked"
    );
    let routes = one(peer.send(resume(RDS, &["r"], "r=old")));
    assert!(peer.ack(&barrier, &[]).is_empty());
    assert_eq!(short(&peer.ack(&routes, &[])), ["CDS -old"]);
}

#[test]
fn a_resuming_clients_routes_wait_for_the_clusters_that_it_missed() {
    const LDS: &TypeUrl = &TypeUrl::LISTENER;
    let content = snapshot(&[(CDS, "new=1"), (LDS, "l=1 m=2"), (RDS, "r=new s=1")]);
    let mut peer = Peer::new(Flavour::Delta, &content);
    let clusters = one(peer.send(resume(CDS, &["*"], "old=1")));
    assert_eq!(short(std::slice::from_ref(&clusters)), ["CDS new=1"]);
    assert!(peer.send(resume(LDS, &["*"], "l=1 m=1")).is_empty());
    assert!(peer.send(resume(RDS, &["r"], "r=old")).is_empty());
    let moved = peer.ack(&clusters, &[]);
    assert_eq!(short(&moved), ["LDS m=2", "RDS r=new"]);
    assert!(peer.ack(&moved[0], &[]).is_empty());
    assert_eq!(short(&peer.ack(&moved[1], &[])), ["CDS -old"]);

    // One that it does not hold, something of the client's waits for.
    let mut peer = Peer::new(Flavour::Delta, &content);
    one(peer.send(resume(CDS, &["*"], "old=1")));
    assert_eq!(short(&peer.send(resume(RDS, &["r", "s"], "r=old"))), ["RDS r=new s=1"]);
}

#[test]
fn a_resuming_clients_extension_configurations_wait_for_clusters_too() {
    const ECDS: &TypeUrl = &TypeUrl::EXTENSION;
    let content = snapshot(&[(CDS, "code=2"), (ECDS, "f=2 g=2")]);
    let mut peer = Peer::new(Flavour::Delta, &content);
    let clusters = one(peer.send(resume(CDS, &["*"], "code=1")));
    assert!(peer.send(resume(ECDS, &["f"], "f=1")).is_empty());
    assert_eq!(short(&peer.ack(&clusters, &[])), ["ECDS f=2"]);

    // One that it does not hold, something of the client's waits for.
    let mut peer = Peer::new(Flavour::Delta, &content);
    one(peer.send(resume(CDS, &["*"], "code=1")));
    assert_eq!(short(&peer.send(resume(ECDS, &["f", "g"], "f=1"))), ["ECDS f=2 g=2"]);
}

#[test]
fn equal_initial_versions_are_sent_nothing_and_count_as_held() {
    let content = snapshot(&[(CDS, "a=1 b=2"), (RDS, "r=1")]);
    let mut peer = Peer::new(Flavour::Delta, &content);
    assert!(peer.send(resume(CDS, &["*"], "a=1 b=2")).is_empty());
    assert!(peer.send(resume(RDS, &["r"], "r=1")).is_empty());
    assert_eq!(peer.status(CDS).acked.as_ref(), Some(content.set(CDS).version()));
    assert_eq!(peer.status(RDS).acked.as_ref(), Some(content.set(RDS).version()));
}

#[test]
fn an_explicit_subscription_resumes_by_its_names() {
    let mut peer = Peer::new(Flavour::Delta, &snapshot(&[(RDS, "a=1 b=2 c=3")]));
    let request = resume(RDS, &["a", "b", "gone", "unknown"], "a=1 b=1 gone=1 unwanted=1");
    assert_eq!(short(&peer.send(request)), ["RDS b=2 -gone -unknown"]);
}

#[test]
fn initial_versions_count_in_the_first_request_only() {
    let mut peer = Peer::new(Flavour::Delta, &snapshot(&[(RDS, "a=1 b=1")]));
    let first = one(peer.ask(RDS, &["a"]));
    peer.ack(&first, &[]);
    assert_eq!(short(&peer.send(resume(RDS, &["b"], "b=1"))), ["RDS b=1"]);
}

#[test]
fn initial_versions_wait_for_a_late_snapshot() {
    let mut session = Session::new(Flavour::Delta, Scope::Aggregated, SessionLimits::default());
    let turn = session.on_request(resume(CDS, &["*"], "a=1 b=1"), SystemTime::UNIX_EPOCH).unwrap();
    assert!(turn.responses.is_empty());
    let responses = session.on_snapshot(Some(snapshot(&[(CDS, "a=1 b=2")])));
    assert_eq!(short(&[Seen::new(&responses[0])]), ["CDS b=2"]);
}

#[test]
fn a_state_of_the_world_wildcard_resumes_by_its_version() {
    let content = snapshot(&[(CDS, "a=1 b=2")]);
    for (version, responses) in [(content.set(CDS).version().to_string(), 0), ("older".to_owned(), 1)] {
        let mut peer = Peer::new(Flavour::StateOfTheWorld, &content);
        let request =
            DiscoveryRequest { type_url: CDS.to_string(), version_info: version, ..Default::default() };
        assert_eq!(peer.send(Request::StateOfTheWorld(request)).len(), responses);
    }
}

#[test]
fn an_explicit_state_of_the_world_subscription_is_sent_anew() {
    // Its version does not say which names it had then.
    let content = snapshot(&[(RDS, "r=1")]);
    let mut peer = Peer::new(Flavour::StateOfTheWorld, &content);
    let request = DiscoveryRequest {
        type_url: RDS.to_string(),
        version_info: content.set(RDS).version().to_string(),
        resource_names: strings(&["r"]),
        ..Default::default()
    };
    assert_eq!(peer.send(Request::StateOfTheWorld(request)).len(), 1);
}

#[test]
fn twenty_thousand_resources_resume_without_being_sent() {
    let resources: String = (0..20_000).map(|n| format!("cluster-{n}=v{n} ")).collect();
    let content = snapshot(&[(CDS, &resources)]);
    let mut peer = Peer::new(Flavour::Delta, &content);
    assert!(peer.send(resume(CDS, &["*"], &resources)).is_empty());

    let mut builder = SnapshotBuilder::editing(&content);
    builder.insert(CDS, "cluster-7", b"changed");
    let next = Arc::new(builder.build());
    let sent = one(peer.publish(&next));
    assert_eq!(short(&[sent]), ["CDS cluster-7=changed"]);
}

#[test]
fn a_nonce_of_an_earlier_stream_answers_nothing() {
    let mut peer = Peer::new(Flavour::Delta, &snapshot(&[(CDS, "a=1")]));
    let (responses, answer) = peer.turn(peer.request(CDS, &["*"], "1", None));
    assert_eq!((responses.len(), answer), (1, None));
}

#[test]
fn a_claim_is_taken_back_by_unsubscribing_before_there_is_a_snapshot() {
    let mut session = Session::new(Flavour::Delta, Scope::Aggregated, SessionLimits::default());
    let unsubscribe = DeltaDiscoveryRequest {
        type_url: CDS.to_string(),
        resource_names_unsubscribe: strings(&["*"]),
        ..Default::default()
    };
    for request in [resume(CDS, &["*"], "a=1"), Request::Delta(unsubscribe), resume(CDS, &["*"], "")] {
        session.on_request(request, SystemTime::UNIX_EPOCH).unwrap();
    }
    let responses = session.on_snapshot(Some(snapshot(&[(CDS, "a=1")])));
    assert_eq!(short(&[Seen::new(&responses[0])]), ["CDS a=1"], "it dropped what it had");
}
