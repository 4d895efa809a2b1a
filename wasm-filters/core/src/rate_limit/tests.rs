//! The limiter over slots that several threads share, as workers do.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::json;
use tollgate_filter_config::CONSUMER_HEADER;

use super::*;

#[derive(Default)]
struct Request {
    headers: Vec<(&'static str, Vec<u8>)>,
    address: Vec<u8>,
    route: Vec<u8>,
}

impl KeySource for Request {
    fn consumer(&self) -> Option<Cow<'_, [u8]>> {
        self.header(CONSUMER_HEADER).into_iter().next()
    }
    fn header(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        self.headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| value.into()).collect()
    }
    fn client_address(&self) -> Vec<u8> {
        self.address.clone()
    }
    fn route_name(&self) -> Vec<u8> {
        self.route.clone()
    }
}

/// Envoy's shared data: compare-and-swap by version.
#[derive(Default)]
struct Shared {
    slots: Mutex<HashMap<usize, (Vec<u8>, u32)>>,
    next: AtomicU32,
    lost: AtomicUsize,
}

impl SharedSlots for Shared {
    fn read(&self, slot: usize) -> Result<(Vec<u8>, Option<u32>), HostFailure> {
        let slots = self.slots.lock().unwrap();
        Ok(slots.get(&slot).map_or((Vec::new(), None), |(bytes, version)| (bytes.clone(), Some(*version))))
    }
    fn write(&self, slot: usize, bytes: &[u8], version: Option<u32>) -> Result<bool, HostFailure> {
        let mut slots = self.slots.lock().unwrap();
        if slots.get(&slot).map(|(_, version)| *version) != version {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        }
        let version = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        slots.insert(slot, (bytes.to_vec(), version));
        Ok(true)
    }
}

struct Broken;

impl SharedSlots for Broken {
    fn read(&self, _: usize) -> Result<(Vec<u8>, Option<u32>), HostFailure> {
        Err(HostFailure)
    }
    fn write(&self, _: usize, _: &[u8], _: Option<u32>) -> Result<bool, HostFailure> {
        Err(HostFailure)
    }
}

fn limiter(key: serde_json::Value, limit: u64, burst: u64) -> Limiter {
    let policy = json!({ "key": key, "limit": limit, "period_ms": 1000, "burst": burst });
    Limiter::from_json(json!({ "policies": { "p": policy } }).to_string().as_bytes()).unwrap()
}

fn is_allowed(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow(..))
}

const NOW: Duration = Duration::from_secs(1_700_000_000);

#[test]
fn workers_admit_exactly_the_burst_together() {
    let (shared, admitted) = (Shared::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let limiter = limiter(json!([]), 1, 100);
                for _ in 0..200 {
                    let decision = limiter.decide("p", &Request::default(), &shared, 1, NOW);
                    admitted.fetch_add(usize::from(is_allowed(&decision)), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.load(Ordering::Relaxed), 100, "{} tries lost", shared.lost.load(Ordering::Relaxed));
}

#[test]
fn over_the_limit_says_when_to_come_back() {
    let (limiter, shared) = (limiter(json!([]), 1, 2), Shared::default());
    let decide = || limiter.decide("p", &Request::default(), &shared, 1, NOW);
    let Decision::Allow(quota, Evicted::Nothing) = decide() else { panic!("refused") };
    let mut headers = Vec::new();
    quota.headers(|name, value| headers.push((name, value.to_owned())));
    assert!(headers.contains(&("ratelimit", r#""p";r=1;t=1"#.to_owned())), "{headers:?}");
    assert!(is_allowed(&decide()));
    let Decision::Limit(response) = decide() else { panic!("not limited") };
    assert_eq!(response.status, 429);
    for header in [
        ("retry-after", "1".to_owned()),
        ("ratelimit-policy", r#""p";q=1;w=1"#.to_owned()),
        ("ratelimit", r#""p";r=0;t=2"#.to_owned()),
        ("cache-control", "no-store".to_owned()),
    ] {
        assert!(response.headers.contains(&header), "{header:?} in {:?}", response.headers);
    }
}

#[test]
fn each_part_of_the_key_tells_callers_apart() {
    let request = |header: &'static str, value: &[u8]| Request {
        headers: vec![(header, value.to_vec())],
        address: b"10.0.0.1:1000".to_vec(),
        ..Request::default()
    };
    let cases: [(serde_json::Value, Request, Request, bool); 9] = [
        (json!(["consumer"]), request(CONSUMER_HEADER, b"a"), request(CONSUMER_HEADER, b"b"), true),
        (json!(["consumer"]), request(CONSUMER_HEADER, b"a"), request(CONSUMER_HEADER, b"a"), false),
        // Nobody is known: the address counts, and a consumer of that name is someone else.
        (json!(["consumer"]), request("x", b""), request(CONSUMER_HEADER, b"10.0.0.1"), true),
        (json!(["consumer"]), request("x", b""), request(CONSUMER_HEADER, b""), false),
        (json!([{ "header": "x-a" }]), request("x-a", b"\xff"), request("x-a", b"\xfe"), true),
        (json!([{ "header": "x-a" }]), request("x-a", b""), request("x-b", b""), true),
        (json!([]), request("x-a", b"1"), request("x-a", b"2"), false),
        (
            json!(["client_address"]),
            Request { address: b"10.0.0.1:1".to_vec(), ..Request::default() },
            Request { address: b"10.0.0.1:2".to_vec(), ..Request::default() },
            false,
        ),
        (
            json!(["route"]),
            Request { route: b"r1".to_vec(), ..Request::default() },
            Request { route: b"r2".to_vec(), ..Request::default() },
            true,
        ),
    ];
    for (index, (key, first, second, apart)) in cases.iter().enumerate() {
        let (limiter, shared) = (limiter(key.clone(), 1, 1), Shared::default());
        assert!(is_allowed(&limiter.decide("p", first, &shared, 1, NOW)));
        assert_eq!(is_allowed(&limiter.decide("p", second, &shared, 1, NOW)), *apart, "case {index}");
    }
}

#[test]
fn address_loses_only_its_port() {
    for (address, host) in [
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("/run/x.sock", "/run/x.sock"),
        ("", ""),
        (":", ""),
    ] {
        assert_eq!(without_port(address.as_bytes()), host.as_bytes());
    }
}

#[test]
fn what_cannot_be_counted_does_not_pass() {
    let limiter = limiter(json!([]), 1, 1);
    for decision in [
        limiter.decide("other", &Request::default(), &Shared::default(), 1, NOW),
        limiter.decide("p", &Request::default(), &Broken, 1, NOW),
    ] {
        let Decision::Unavailable(response) = decision else { panic!("{decision:?}") };
        assert_eq!(response.status, 503);
        assert!(response.headers.contains(&("retry-after", "1".to_owned())));
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (policy, path) in [
        (json!({ "key": [], "limit": 0, "period_ms": 1, "burst": 1 }), "policies.p.limit"),
        (json!({ "key": [], "limit": 1, "period_ms": 0, "burst": 1 }), "policies.p.period_ms"),
        (json!({ "key": [], "limit": 1, "period_ms": 1, "burst": 0 }), "policies.p.burst"),
        (
            json!({ "key": [{ "header": "X" }], "limit": 1, "period_ms": 1, "burst": 1 }),
            "policies.p.key[0].header",
        ),
        (json!({ "key": ["moon"], "limit": 1, "period_ms": 1, "burst": 1 }), "policies.p.key[0]"),
    ] {
        let json = json!({ "policies": { "p": policy } }).to_string();
        let error = Limiter::from_json(json.as_bytes()).unwrap_err();
        assert!(error.path.starts_with(path), "{error}");
    }
}

proptest! {
    #[test]
    fn any_request_and_any_shared_bytes_are_survived(
        header in proptest::collection::vec(any::<u8>(), 0..40),
        address in proptest::collection::vec(any::<u8>(), 0..40),
        garbage in proptest::collection::vec(any::<u8>(), 0..150),
        now in any::<u64>(),
    ) {
        let limiter = limiter(json!(["consumer", "client_address", "route", { "header": "x-a" }]), 5, 5);
        let request = Request { headers: vec![("x-a", header)], address, route: garbage.clone() };
        let shared = Shared::default();
        let place = Place::of(&limiter.policies["p"].key(&request), 1);
        shared.slots.lock().unwrap().insert(place.slot, ([vec![1], garbage].concat(), 7));
        for _ in 0..3 {
            let _ = limiter.decide("p", &request, &shared, 1, Duration::from_nanos(now));
        }
    }

    #[test]
    fn any_configuration_is_survived(json in ".{0,100}") {
        let _ = Limiter::from_json(json.as_bytes());
    }
}
