//! Any interleaving leaves a model client with exactly what it subscribes to.
//!
//! The client is the strictest the protocol allows: it refuses a response that holds anything bad and then applies none
//! of it, forgets what it unsubscribes from, and believes its subscription, not the server. Requests arrive at once,
//! responses wait in an inbox until the client reads, so that each side acts on old knowledge of the other. One name has a
//! time to live: the client forgets it without a heartbeat, and refuses a heartbeat of what it does not hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const TYPES: [TypeUrl; 5] =
    [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::EXTENSION, TypeUrl::LISTENER, TypeUrl::ROUTE];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// The name that expires, and when.
const EXPIRES: &str = "d";
const TTL: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
enum Step {
    /// The client reads and answers its oldest response.
    Read,
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Wildcard(usize, bool),
    /// A request whose nonce was never that of the unanswered response.
    Stale(usize),
    /// (type, name, version): version 0 removes, multiples of 5 are bad.
    Publish(Vec<(usize, usize, u8)>),
    Clear,
    Reconnect,
    /// So many seconds go by.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (types, names) = (0..TYPES.len(), 0..NAMES.len());
    let edits = prop::collection::vec((types.clone(), names.clone(), 0u8..12), 1..5);
    prop_oneof![
        6 => Just(Step::Read),
        3 => (types.clone(), names.clone()).prop_map(|(t, n)| Step::Subscribe(t, n)),
        2 => (types.clone(), names).prop_map(|(t, n)| Step::Unsubscribe(t, n)),
        2 => (types.clone(), any::<bool>()).prop_map(|(t, on)| Step::Wildcard(t, on)),
        1 => types.prop_map(Step::Stale),
        4 => edits.prop_map(Step::Publish),
        1 => Just(Step::Clear),
        1 => Just(Step::Reconnect),
        2 => (1u64..20).prop_map(Step::Wait),
    ]
}

/// One type as the client sees it.
#[derive(Debug, Default)]
struct Subscribed {
    requested: bool,
    wildcard: bool,
    names: BTreeSet<String>,
    held: BTreeMap<String, String>,
    /// Answers the server may still owe for a name, so that a removal of what is not held is no surprise.
    questions: BTreeMap<String, usize>,
    nonce: String,
    accepted: String,
    /// When [`EXPIRES`] is forgotten, if it is held.
    expires: Option<Instant>,
}

impl Subscribed {
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn question(&mut self, name: &str) {
        *self.questions.entry(name.into()).or_default() += 1;
    }

    fn list(&self) -> Vec<String> {
        let star = self.wildcard.then(|| "*".to_owned());
        star.into_iter().chain(self.names.iter().cloned()).collect()
    }
}

struct World {
    flavour: Flavour,
    content: BTreeMap<(usize, usize), u8>,
    snapshot: Option<Arc<Snapshot>>,
    session: Session,
    inbox: VecDeque<Response>,
    now: Instant,
    client: BTreeMap<TypeUrl, Subscribed>,
}

impl World {
    fn new(flavour: Flavour) -> World {
        World {
            flavour,
            content: BTreeMap::new(),
            snapshot: None,
            session: Session::new(flavour, Scope::Aggregated, SessionLimits::default()),
            inbox: VecDeque::new(),
            now: Instant::now(),
            client: TYPES.into_iter().map(|type_url| (type_url, Subscribed::default())).collect(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Read => self.read(),
            Step::Subscribe(t, n) => self.subscribe(&TYPES[t], NAMES[n]),
            Step::Unsubscribe(t, n) => self.unsubscribe(&TYPES[t], NAMES[n]),
            Step::Wildcard(t, true) => self.subscribe(&TYPES[t], "*"),
            Step::Wildcard(t, false) => self.unsubscribe(&TYPES[t], "*"),
            Step::Stale(t) => {
                if self.client[&TYPES[t]].requested {
                    self.request(&TYPES[t], "stale", None, &[], &[], false);
                }
            }
            Step::Publish(edits) => {
                for (t, n, version) in edits {
                    self.content.insert((t, n), version);
                }
                self.publish();
            }
            Step::Clear => {
                self.snapshot = None;
                assert!(self.session.on_snapshot(None).is_empty());
            }
            Step::Reconnect => self.reconnect(),
            Step::Wait(seconds) => self.wait(Duration::from_secs(seconds)),
        }
        for type_url in &TYPES {
            let unread = self.inbox.iter().filter(|response| response.type_url == *type_url).count();
            assert!(unread <= 1, "{unread} unanswered responses of {type_url:?}");
        }
    }

    fn publish(&mut self) {
        let mut builder = SnapshotBuilder::replacing(&self.snapshot.clone().unwrap_or_default());
        for ((t, n), version) in self.content.iter().filter(|(_, version)| **version > 0) {
            let goodness = if version % 5 == 0 { "bad" } else { "good" };
            let body = format!("{}@{version}{goodness}", NAMES[*n]);
            if NAMES[*n] == EXPIRES {
                let resource = Resource::expiring(&TYPES[*t], EXPIRES, &body, TTL, body.as_bytes());
                builder.insert_resource(&TYPES[*t], Arc::new(resource));
            } else {
                builder.insert_versioned(&TYPES[*t], NAMES[*n], &body, body.as_bytes());
            }
        }
        let snapshot = Arc::new(builder.build());
        self.snapshot = Some(snapshot.clone());
        self.inbox.extend(self.session.on_snapshot(Some(snapshot)));
        self.beat();
    }

    /// What a stream's task does after every turn.
    fn beat(&mut self) {
        let (responses, due) = self.session.heartbeats(self.now);
        self.inbox.extend(responses);
        assert!(due.is_none_or(|due| due > self.now), "a timer that is over at once");
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for state in self.client.values_mut() {
            if state.expires.is_some_and(|expires| expires <= self.now) {
                state.expires = None;
                if state.held.remove(EXPIRES).is_some() {
                    // The server does not know, and may announce it as removed.
                    state.question(EXPIRES);
                }
            }
        }
        self.beat();
    }

    fn subscribe(&mut self, type_url: &TypeUrl, name: &str) {
        let state = self.client.get_mut(type_url).unwrap();
        match name {
            "*" => {
                // What it asked for before may be answered with either.
                NAMES.iter().for_each(|name| state.question(name));
                state.wildcard = true;
            }
            name => {
                state.question(name);
                state.names.insert(name.into());
            }
        }
        self.request(type_url, "", None, &[name], &[], false);
    }

    fn unsubscribe(&mut self, type_url: &TypeUrl, name: &str) {
        let state = self.client.get_mut(type_url).unwrap();
        let known = if name == "*" { std::mem::take(&mut state.wildcard) } else { state.names.remove(name) };
        if !known {
            return;
        }
        if name != "*" && state.wildcard {
            state.question(name);
            if self.flavour == Flavour::Delta {
                // It cannot know whether the wildcard covers it until told.
                state.held.remove(name);
            }
        }
        if name == "*" {
            // It no longer holds what that version stands for.
            state.accepted.clear();
        }
        let Subscribed { wildcard, names, held, .. } = state;
        held.retain(|name, _| *wildcard || names.contains(name));
        self.request(type_url, "", None, &[], &[name], false);
    }

    fn request(
        &mut self,
        type_url: &TypeUrl,
        nonce: &str,
        error: Option<&str>,
        subscribe: &[&str],
        unsubscribe: &[&str],
        first: bool,
    ) {
        let state = self.client.get_mut(type_url).unwrap();
        state.requested = true;
        let error_detail = error.map(|message| Status { message: message.into(), ..Default::default() });
        let (type_url, response_nonce) = (type_url.to_string(), nonce.to_owned());
        let request = match self.flavour {
            Flavour::StateOfTheWorld => Request::StateOfTheWorld(DiscoveryRequest {
                version_info: state.accepted.clone(),
                resource_names: state.list(),
                response_nonce: if nonce.is_empty() && !first { state.nonce.clone() } else { response_nonce },
                type_url,
                error_detail,
                ..Default::default()
            }),
            Flavour::Delta => Request::Delta(DeltaDiscoveryRequest {
                resource_names_subscribe: strings(subscribe),
                resource_names_unsubscribe: strings(unsubscribe),
                initial_resource_versions: match first {
                    true => state.held.clone().into_iter().collect(),
                    false => HashMap::new(),
                },
                type_url,
                response_nonce,
                error_detail,
                ..Default::default()
            }),
        };
        let turn = self.session.on_request(request, SystemTime::UNIX_EPOCH).unwrap();
        self.inbox.extend(turn.responses);
        self.beat();
    }

    fn read(&mut self) {
        let Some(response) = self.inbox.pop_front() else { return };
        let type_url = response.type_url.clone();
        let seen = Seen::new(&response);
        let bodies = seen.resources.iter().map(|text| text.rsplit('=').next().unwrap().to_owned());
        let bodies: Vec<(String, String)> =
            bodies.map(|body| (body.split('@').next().unwrap().to_owned(), body)).collect();
        let state = self.client.get_mut(&type_url).unwrap();
        state.nonce = seen.nonce.clone();
        if response.heartbeat && self.flavour == Flavour::Delta {
            return self.read_heartbeat(&type_url, &seen, &bodies);
        }
        let bad = bodies.iter().any(|(name, body)| body.ends_with("bad") && state.wants(name));
        if bad {
            bodies.iter().map(|(name, _)| name).chain(&seen.removed).for_each(|name| state.question(name));
            self.request(&type_url, &seen.nonce, Some("bad"), &[], &[], false);
            return;
        }
        if self.flavour == Flavour::StateOfTheWorld && type_url.is_full_state() {
            state.held.clear();
        }
        for (name, body) in bodies {
            if state.wants(&name) {
                if name == EXPIRES {
                    state.expires = Some(self.now + TTL);
                }
                state.held.insert(name, body);
            }
        }
        for name in &seen.removed {
            if state.held.remove(name).is_none() && state.wants(name) {
                let left = state.questions.get_mut(name).filter(|left| **left > 0);
                *left.unwrap_or_else(|| panic!("{type_url:?} {name} announced as removed again")) -= 1;
            }
        }
        state.accepted = seen.version;
        self.request(&type_url, &seen.nonce, None, &[], &[], false);
    }

    fn read_heartbeat(&mut self, type_url: &TypeUrl, seen: &Seen, bodies: &[(String, String)]) {
        let state = self.client.get_mut(type_url).unwrap();
        let [(name, body)] = bodies else { panic!("one name has a time to live: {seen:?}") };
        assert_eq!(name.trim_start_matches('~'), EXPIRES);
        let is_held = state.held.get(EXPIRES).map(String::as_str) == Some(body.trim_start_matches('~'));
        if is_held {
            state.expires = Some(self.now + TTL);
        } else if state.wants(EXPIRES) {
            state.question(EXPIRES);
            return self.request(type_url, &seen.nonce, Some("not held"), &[], &[], false);
        }
        self.request(type_url, &seen.nonce, None, &[], &[], false);
    }

    fn reconnect(&mut self) {
        self.inbox.clear();
        self.session = Session::new(self.flavour, Scope::Aggregated, SessionLimits::default());
        self.session.on_snapshot(self.snapshot.clone());
        for type_url in TYPES {
            let state = self.client.get_mut(&type_url).unwrap();
            state.nonce.clear();
            state.requested = state.wildcard || !state.names.is_empty();
            if state.requested {
                let list = state.list();
                list.iter().for_each(|name| state.question(name));
                let list: Vec<&str> = list.iter().map(String::as_str).collect();
                self.request(&type_url, "", None, &list, &[], true);
            }
        }
    }

    /// Everything bad is mended and the client reads all there is.
    fn settle(&mut self) {
        self.content.values_mut().filter(|version| **version % 5 == 0 && **version > 0).for_each(|v| *v += 1);
        self.publish();
        self.come_to_rest();
        // What was lost is missed at the next heartbeat; from then on, nothing is lost any more.
        for _ in 0..6 {
            self.wait(TTL / 3);
            self.come_to_rest();
        }
    }

    fn come_to_rest(&mut self) {
        for _ in 0..200 {
            self.read();
        }
        assert!(self.inbox.is_empty(), "the server does not come to rest: {:?}", self.inbox);
    }

    fn check(&mut self) {
        let snapshot = self.snapshot.clone().unwrap();
        for (type_url, state) in &self.client {
            let set = snapshot.set(type_url);
            let due = set.iter().filter(|resource| state.wants(resource.name()));
            let due: BTreeMap<_, _> = due.map(|r| (r.name().to_string(), r.version().to_string())).collect();
            let mut held = state.held.clone();
            if self.flavour == Flavour::StateOfTheWorld && !type_url.is_full_state() {
                // Absence cannot be told; the client learns it from what no longer refers there.
                held.retain(|name, _| set.get(name).is_some());
            }
            assert_eq!(held, due, "{type_url:?}");
        }
        for (type_url, status) in self.session.status() {
            assert_eq!(
                status.acked.as_ref(),
                Some(snapshot.set(type_url).version()),
                "{type_url:?}: {status:?}"
            );
            assert_eq!(status.rejected, 0);
        }
        self.publish();
        assert!(self.inbox.is_empty(), "an idle server sends nothing");
        let has_timer = self.session.heartbeats(self.now).1.is_some();
        let mut wanted = self.client.iter().filter(|(_, state)| state.wants(EXPIRES));
        let expires = wanted.any(|(type_url, _)| snapshot.set(type_url).get(EXPIRES).is_some());
        assert_eq!(has_timer, expires, "a timer, and what is kept alive by it");
    }
}

fn holds_after(flavour: Flavour, steps: Vec<Step>) {
    let mut world = World::new(flavour);
    for step in steps {
        world.step(step);
    }
    // Also while the client refuses part of what there is: a refusal is not answered with the same again.
    world.come_to_rest();
    world.settle();
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_delta_client_holds_exactly_what_it_subscribes_to(steps in prop::collection::vec(step(), 0..60)) {
        holds_after(Flavour::Delta, steps);
    }

    #[test]
    fn a_state_of_the_world_client_holds_exactly_what_it_subscribes_to(steps in prop::collection::vec(step(), 0..60)) {
        holds_after(Flavour::StateOfTheWorld, steps);
    }
}
