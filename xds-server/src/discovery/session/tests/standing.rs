//! What is said of a client's resources when somebody asks.

use super::*;

fn held(peer: &Peer, type_url: &TypeUrl) -> String {
    let each = peer.session.held(type_url).map(|held| {
        let standing = format!("{:?}", held.standing);
        match &*held.version {
            "" => format!("{}:{standing}", held.name),
            version => format!("{}@{version}:{standing}", held.name),
        }
    });
    each.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_resource_is_not_sent_then_stale_then_synced() {
    let first = snapshot(&[(&TypeUrl::ENDPOINT, "a=1 b=1")]);
    let mut peer = Peer::new(Flavour::Delta, &first);
    let sent = peer.ask(&TypeUrl::ENDPOINT, &["b", "a", "nothing"]);
    assert_eq!(held(&peer, &TypeUrl::ENDPOINT), "a@1:Stale b@1:Stale nothing:NotSent");
    peer.publish(&snapshot(&[(&TypeUrl::ENDPOINT, "a=1 b=2")]));
    // The change waits for the answer to what was sent before.
    assert_eq!(held(&peer, &TypeUrl::ENDPOINT), "a@1:Stale b@2:NotSent nothing:NotSent");
    let sent = peer.ack(&sent[0], &[]);
    assert_eq!(held(&peer, &TypeUrl::ENDPOINT), "a@1:Synced b@2:Stale nothing:NotSent");
    peer.ack(&sent[0], &[]);
    assert_eq!(held(&peer, &TypeUrl::ENDPOINT), "a@1:Synced b@2:Synced nothing:NotSent");
}

#[test]
fn a_refused_resource_is_so_until_another_is_sent() {
    let mut peer = Peer::new(Flavour::Delta, &snapshot(&[(&TypeUrl::CLUSTER, "a=1 b=1")]));
    let sent = peer.ask(&TypeUrl::CLUSTER, &["*"]);
    peer.nack(&sent[0], &[]);
    assert_eq!(held(&peer, &TypeUrl::CLUSTER), "a@1:Refused b@1:Refused");
    let sent = peer.publish(&snapshot(&[(&TypeUrl::CLUSTER, "a=2 b=1")]));
    assert_eq!(held(&peer, &TypeUrl::CLUSTER), "a@2:Stale b@1:Stale");
    peer.ack(&sent[0], &[]);
    assert_eq!(held(&peer, &TypeUrl::CLUSTER), "a@2:Synced b@1:Synced");
}

#[test]
fn in_state_of_the_world_the_version_is_that_of_the_response() {
    let content = snapshot(&[(&TypeUrl::CLUSTER, "a=1"), (&TypeUrl::ENDPOINT, "a=1")]);
    let mut peer = Peer::new(Flavour::StateOfTheWorld, &content);
    for (type_url, names) in [(&TypeUrl::CLUSTER, &[][..]), (&TypeUrl::ENDPOINT, &["a"])] {
        let sent = peer.ask(type_url, names);
        assert_eq!(held(&peer, type_url), format!("a@{}:Stale", sent[0].version));
        peer.ack(&sent[0], names);
        assert_eq!(held(&peer, type_url), format!("a@{}:Synced", sent[0].version));
    }
}

#[test]
fn what_a_client_came_with_is_synced_and_what_it_left_is_not_listed() {
    let content = snapshot(&[(&TypeUrl::CLUSTER, "a=1 b=1")]);
    let mut peer = Peer::new(Flavour::Delta, &content);
    peer.send(Request::Delta(DeltaDiscoveryRequest {
        type_url: TypeUrl::CLUSTER.to_string(),
        resource_names_subscribe: strings(&["a", "b"]),
        initial_resource_versions: HashMap::from([("a".into(), "1".into()), ("b".into(), "0".into())]),
        ..Default::default()
    }));
    assert_eq!(held(&peer, &TypeUrl::CLUSTER), "a@1:Synced b@1:Stale");
    peer.unsubscribe(&TypeUrl::CLUSTER, &["b"]);
    assert_eq!(held(&peer, &TypeUrl::CLUSTER), "a@1:Synced");
    assert_eq!(held(&peer, &TypeUrl::LISTENER), "");
}
