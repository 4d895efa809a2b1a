//! Virtual hosts on demand: a client asks by host, and is told what answers for it.

use envoy_types::pb::envoy::config::route::v3::VirtualHost;
use proptest::prelude::*;

use super::*;

const CDS: &TypeUrl = &TypeUrl::CLUSTER;
const VHDS: &TypeUrl = &TypeUrl::VIRTUAL_HOST;

/// Virtual hosts as `name=domain,domain@version`, separated by blanks.
fn hosts(text: &str) -> Arc<Snapshot> {
    let mut builder = Snapshot::builder();
    for (name, rest) in text.split_whitespace().filter_map(|host| host.split_once('=')) {
        let (domains, version) = rest.split_once('@').unwrap();
        let host = VirtualHost {
            name: name.into(),
            domains: domains.split(',').map(str::to_owned).collect(),
            ..VirtualHost::default()
        };
        builder.insert_versioned(VHDS, name, version, &host.encode_to_vec());
    }
    Arc::new(builder.build())
}

/// What a response says: `+resource@version`, `-removed`, `?name` for one that is answered without a resource.
fn said(responses: &[Response]) -> Vec<String> {
    let said = |response: &Response| {
        let message = DeltaDiscoveryResponse::decode(response.encode()).unwrap();
        let names: Vec<&String> = message
            .resources
            .iter()
            .map(|resource| &resource.name)
            .chain(&message.removed_resources)
            .collect();
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(names.len(), unique.len(), "Envoy refuses a name that stands twice: {message:?}");
        let resources = message.resources.iter().map(|resource| match &resource.resource {
            Some(any) => {
                let host = VirtualHost::decode(&*any.value).unwrap();
                assert_eq!((&host.name, host.domains.len()), (&resource.name, 1));
                format!("+{}@{}", resource.name, resource.version)
            }
            None => {
                assert_eq!(resource.aliases, std::slice::from_ref(&resource.name));
                format!("?{}", resource.name)
            }
        });
        let removed = message.removed_resources.iter().map(|name| format!("-{name}"));
        let mut all: Vec<String> = resources.chain(removed).collect();
        all.sort();
        all.join(" ")
    };
    responses.iter().map(said).collect()
}

struct Proxy {
    session: Session,
    nonce: Option<String>,
}

impl Proxy {
    fn connect(snapshot: Option<&Arc<Snapshot>>, limits: SessionLimits) -> Proxy {
        let mut session = Session::new(Flavour::Delta, Scope::Aggregated, limits);
        session.on_snapshot(snapshot.cloned());
        Proxy { session, nonce: None }
    }

    /// As Envoy begins: it asks for nothing.
    fn new(snapshot: &Arc<Snapshot>) -> Proxy {
        let mut proxy = Proxy::connect(Some(snapshot), SessionLimits::default());
        assert_eq!(proxy.ask(&[]), [""; 0]);
        proxy
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) -> Vec<String> {
        let request = DeltaDiscoveryRequest { type_url: VHDS.to_string(), ..request };
        let turn = self.session.on_request(Request::Delta(request), SystemTime::UNIX_EPOCH).unwrap();
        self.sent(turn.responses)
    }

    fn sent(&mut self, responses: Vec<Response>) -> Vec<String> {
        let of_hosts: Vec<Response> = responses.into_iter().filter(|one| one.type_url == *VHDS).collect();
        if let Some(last) = of_hosts.last() {
            self.nonce = Some(last.nonce.to_string());
        }
        said(&of_hosts)
    }

    fn ask(&mut self, names: &[&str]) -> Vec<String> {
        let resource_names_subscribe = strings(names);
        self.request(DeltaDiscoveryRequest { resource_names_subscribe, ..Default::default() })
    }

    fn ack(&mut self) -> Vec<String> {
        let Some(response_nonce) = self.nonce.take() else { return Vec::new() };
        self.request(DeltaDiscoveryRequest { response_nonce, ..Default::default() })
    }

    fn publish(&mut self, snapshot: &Arc<Snapshot>) -> Vec<String> {
        let responses = self.session.on_snapshot(Some(snapshot.clone()));
        self.sent(responses)
    }

    fn acked(&self) -> Option<Arc<str>> {
        self.session.status().find(|(type_url, _)| *type_url == VHDS).unwrap().1.acked.clone()
    }
}

#[test]
fn a_host_is_sent_when_it_is_asked_for_and_not_before() {
    let mut proxy = Proxy::new(&hosts("r/a=a.com@1 r/w=*.com@2"));
    assert_eq!(proxy.ask(&["r/a.com"]), ["+r/a.com@1"]);
    assert_eq!(proxy.ack(), [""; 0]);
    assert_eq!(proxy.ask(&["r/b.com"]), ["+r/b.com@2"]);
}

#[test]
fn what_was_asked_for_in_other_words_is_answered_under_these_too() {
    let mut proxy = Proxy::new(&hosts("r/a=a.com@1"));
    assert_eq!(proxy.ask(&["r/A.com:80", "r/a.com"]), ["+r/a.com@1 ?r/A.com:80"]);
}

#[test]
fn a_host_that_nobody_has_is_answered_at_once_and_sent_once_somebody_has_it() {
    let mut proxy = Proxy::new(&hosts("r/a=a.com@1"));
    for _ in 0..2 {
        assert_eq!(proxy.ask(&["r/x.com", "r/*", "r", ""]), ["? ?r ?r/* ?r/x.com"]);
        assert_eq!(proxy.ack(), [""; 0]);
    }
    // Envoy does not ask again.
    assert_eq!(proxy.publish(&hosts("r/a=a.com@1 r/x=x.com@1")), ["+r/x.com@1"]);
}

#[test]
fn a_changed_virtual_host_is_sent_again_to_those_who_asked_for_one_of_its_hosts() {
    let mut proxy = Proxy::new(&hosts("r/a=a.com,b.com@1 r/c=c.com@1"));
    proxy.ask(&["r/a.com", "r/b.com"]);
    proxy.ack();
    assert_eq!(proxy.publish(&hosts("r/a=a.com,b.com@1 r/c=c.com@2")), [""; 0]);
    let last = hosts("r/a=a.com,b.com@2 r/c=c.com@2");
    assert_eq!(proxy.publish(&last), ["+r/a.com@2 +r/b.com@2"]);
    proxy.ack();
    assert_eq!(proxy.acked().as_ref(), Some(last.set(VHDS).version()));
}

#[test]
fn a_host_moves_to_the_virtual_host_that_matches_it_better() {
    let mut proxy = Proxy::new(&hosts("r/w=*.a.com@1"));
    proxy.ask(&["r/x.a.com"]);
    proxy.ack();
    assert_eq!(proxy.publish(&hosts("r/w=*.a.com@1 r/x=x.a.com@5")), ["+r/x.a.com@5"]);
    proxy.ack();
    assert_eq!(proxy.publish(&hosts("r/w=*.a.com@1")), ["+r/x.a.com@1"]);
}

#[test]
fn a_host_whose_virtual_host_goes_is_removed_once() {
    let mut proxy = Proxy::new(&hosts("r/a=a.com@1"));
    proxy.ask(&["r/a.com"]);
    proxy.ack();
    assert_eq!(proxy.publish(&hosts("")), ["-r/a.com"]);
    // Asked for meanwhile: the removal is no answer to that.
    assert_eq!(proxy.ask(&["r/a.com"]), [""; 0]);
    assert_eq!(proxy.ack(), ["?r/a.com"]);
    assert_eq!(proxy.ack(), [""; 0]);
    assert_eq!(proxy.publish(&hosts("r/a=a.com@2")), ["+r/a.com@2"]);
}

#[test]
fn a_client_that_comes_back_is_told_the_difference() {
    let mut proxy = Proxy::connect(Some(&hosts("r/a=a.com@1 r/b=b.com@2")), SessionLimits::default());
    let held = [("r/a.com", "1"), ("r/b.com", "1"), ("r/gone.com", "1"), ("r/a.com:80", "")];
    let first = proxy.request(DeltaDiscoveryRequest {
        resource_names_subscribe: strings(&["r/a.com:80", "r/b.com", "r/gone.com", "r/never.com"]),
        initial_resource_versions: held.map(|(name, version)| (name.into(), version.into())).into(),
        ..Default::default()
    });
    assert_eq!(first, ["+r/b.com@2 -r/gone.com -r/never.com ?r/a.com:80"]);
    assert_eq!(proxy.ack(), ["?r/gone.com ?r/never.com"]);
    assert_eq!(proxy.ack(), [""; 0]);
}

#[test]
fn what_is_asked_for_before_there_is_a_snapshot_waits_for_it() {
    let mut proxy = Proxy::connect(None, SessionLimits::default());
    assert_eq!(proxy.ask(&[]), [""; 0]);
    assert_eq!(proxy.ask(&["r/a.com", "r/x.com"]), [""; 0]);
    assert_eq!(proxy.publish(&hosts("r/a=a.com@1")), ["+r/a.com@1 -r/x.com"]);
    assert_eq!(proxy.ack(), ["?r/x.com"]);
}

#[test]
fn hosts_past_the_limit_are_answered_as_if_nobody_had_them() {
    let limits = SessionLimits { hosts: 1, ..SessionLimits::default() };
    let mut proxy = Proxy::connect(Some(&hosts("r/w=*.com@1")), limits);
    proxy.ask(&[]);
    assert_eq!(
        proxy.ask(&["r/x", "r/y", "r/a.com", "r/b.com", "r/a.com:80"]),
        ["+r/a.com@1 ?r/a.com:80 ?r/b.com ?r/x ?r/y"]
    );
    proxy.ack();
    // Unknown hosts take no room from others, and are remembered up to the same limit.
    assert_eq!(proxy.publish(&hosts("r/w=*.com@1 r/x=x,y@1")), ["+r/x@1"]);
}

#[test]
fn removed_clusters_wait_for_virtual_hosts() {
    let with = |cluster: &str, version: &str| {
        let mut builder = SnapshotBuilder::editing(&hosts(&format!("r/a=a.com@{version}")));
        fill(&mut builder, CDS, cluster);
        Arc::new(builder.build())
    };
    let mut peer = Peer::new(Flavour::Delta, &with("old=1", "1"));
    let clusters = one(peer.ask(CDS, &["*"]));
    peer.ack(&clusters, &[]);
    peer.ask(VHDS, &[]);
    let host = one(peer.ask(VHDS, &["r/a.com"]));
    peer.ack(&host, &[]);
    let sent = peer.publish(&with("new=1", "2"));
    assert_eq!(sent.iter().map(Seen::short).collect::<Vec<_>>(), ["CDS", "VHDS"]);
    assert!(peer.ack(&sent[0], &[]).is_empty());
    assert_eq!(short(&peer.ack(&sent[1], &[])), ["CDS -old"]);
}

#[test]
fn a_wildcard_gets_the_virtual_hosts_as_they_are() {
    let mut peer = Peer::new(Flavour::Delta, &hosts("r/a=a.com@1 r/w=*.com@2"));
    assert_eq!(one(peer.ask(VHDS, &["*"])).resources.len(), 2);
}

const ASKED: [&str; 6] = ["r/a.com", "r/a.com:80", "r/A.COM", "r/b.com", "r/x.b.com", "r/none"];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in between: everything asked for is answered, and what a client holds is what there is.
    #[test]
    fn every_host_is_answered_and_held_as_it_is(
        steps in prop::collection::vec((0..4u8, 0..ASKED.len(), 0..8u8), 0..40)
    ) {
        let publishable = |what: u8| {
            let a = if what & 1 > 0 { format!("r/a=a.com@{what} ") } else { String::new() };
            let b = if what & 2 > 0 { format!("r/b=b.com@{what} ") } else { String::new() };
            let wild = if what & 4 > 0 { format!("r/w=*.b.com@{what}") } else { String::new() };
            hosts(&(a + &b + &wild))
        };
        let mut proxy = Proxy::new(&publishable(7));
        let (mut held, mut waiting) = (BTreeMap::new(), Vec::<&str>::new());
        let mut content = publishable(7);
        let mut take = |said: Vec<String>, waiting: &mut Vec<&str>| {
            for word in said.iter().flat_map(|said| said.split_whitespace()) {
                match word.split_at(1) {
                    ("+", resource) => {
                        let (name, version) = resource.split_once('@').unwrap();
                        held.insert(name.to_owned(), version.to_owned());
                        waiting.retain(|asked| *asked != name);
                    }
                    ("-", name) => drop(held.remove(name)),
                    (_, name) => waiting.retain(|asked| *asked != name),
                }
            }
            held.clone()
        };
        for (step, asked, what) in steps {
            let said = match step {
                0 => {
                    waiting.push(ASKED[asked]);
                    proxy.ask(&[ASKED[asked]])
                }
                1 => {
                    content = publishable(what);
                    proxy.publish(&content)
                }
                _ => proxy.ack(),
            };
            take(said, &mut waiting);
        }
        for _ in 0..10 {
            let said = proxy.ack();
            take(said, &mut waiting);
        }
        prop_assert!(proxy.nonce.is_none(), "the server does not come to rest");
        prop_assert!(waiting.is_empty(), "unanswered: {waiting:?}");
        let held = take(Vec::new(), &mut waiting);
        let names: Vec<Arc<str>> = held.keys().map(|name| Arc::from(name.as_str())).collect();
        let due = content.set(VHDS).for_hosts(&names, &ResourceSet::default());
        let due: BTreeMap<String, String> =
            due.iter().map(|resource| (resource.name().to_string(), resource.version().to_string())).collect();
        prop_assert_eq!(held, due);
        prop_assert_eq!(proxy.publish(&content), [""; 0]);
    }
}
