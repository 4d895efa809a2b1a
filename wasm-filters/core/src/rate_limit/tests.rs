//! The limiter over slots that several threads share, as workers do.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::json;
use tollgate_filter_config::CONSUMER_HEADER;

use super::*;
use crate::slots::Place;

#[derive(Default)]
struct Request {
    headers: Vec<(&'static str, Vec<u8>)>,
    address: Vec<u8>,
    route: Vec<u8>,
    claims: Vec<(&'static str, &'static str)>,
}

impl KeySource for Request {
    fn claim(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.claims.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_bytes().into())
    }
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
    several(json!([with(json!({ "key": key, "limit": limit, "burst": burst }))]))
}

/// A limit's configuration, with `changes` to it.
fn with(changes: serde_json::Value) -> serde_json::Value {
    let mut limit = json!({
        "name": "p", "key": [], "limit": 1, "period_ms": 1000, "burst": 1, "cost": 1, "shadow": false,
    });
    for (name, value) in changes.as_object().unwrap() {
        limit[name] = value.clone();
    }
    limit
}

fn several(limits: serde_json::Value) -> Limiter {
    let policy = json!({ "limits": limits, "headers": "always" });
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
                    let decision = limiter.decide("p", &Request::default(), &shared, 1, NOW, None);
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
    let decide = || limiter.decide("p", &Request::default(), &shared, 1, NOW, None);
    let Decision::Allow(Allowed { quota: Some(quota), evicted: false, shadowed: false }) = decide() else {
        panic!("refused")
    };
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
        assert!(is_allowed(&limiter.decide("p", first, &shared, 1, NOW, None)));
        assert_eq!(is_allowed(&limiter.decide("p", second, &shared, 1, NOW, None)), *apart, "case {index}");
    }
}

#[test]
fn what_cannot_be_counted_does_not_pass() {
    let limiter = limiter(json!([]), 1, 1);
    for decision in [
        limiter.decide("other", &Request::default(), &Shared::default(), 1, NOW, None),
        limiter.decide("p", &Request::default(), &Broken, 1, NOW, None),
    ] {
        let Decision::Unavailable(response) = decision else { panic!("{decision:?}") };
        assert_eq!(response.status, 503);
        assert!(response.headers.contains(&("retry-after", "1".to_owned())));
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (limit, field) in [
        (json!({ "limit": 0 }), "limit"),
        (json!({ "period_ms": 0 }), "period_ms"),
        (json!({ "burst": 0 }), "burst"),
        (json!({ "cost": 0 }), "cost"),
        (json!({ "cost": 2 }), "cost"),
        (json!({ "key": [{ "header": "X" }] }), "key[0].header"),
        (json!({ "key": ["moon"] }), "key[0]"),
    ] {
        let policy = json!({ "limits": [with(limit)], "headers": "always" });
        let json = json!({ "policies": { "p": policy } }).to_string();
        let error = Limiter::from_json(json.as_bytes()).unwrap_err();
        assert!(error.path.starts_with(&format!("policies.p.limits[0].{field}")), "{error}");
    }
    let none = json!({ "policies": { "p": { "limits": [], "headers": "limited" } } }).to_string();
    assert_eq!(Limiter::from_json(none.as_bytes()).unwrap_err().path, "policies.p.limits");
}

#[test]
fn what_one_limit_refuses_costs_the_others_nothing() {
    let (shared, address) = (Shared::default(), |last: u8| format!("10.0.0.{last}:1").into_bytes());
    let limiter = several(json!([
        with(json!({ "name": "all", "burst": 3 })),
        with(json!({ "name": "each", "key": ["client_address"], "burst": 1 })),
    ]));
    let decide = |last| {
        let request = Request { address: address(last), ..Request::default() };
        limiter.decide("p", &request, &shared, 1, NOW, None)
    };
    assert!(is_allowed(&decide(1)));
    for _ in 0..5 {
        let Decision::Limit(response) = decide(1) else { panic!("not limited") };
        let ratelimit = response.headers.iter().find(|(name, _)| *name == "ratelimit").unwrap();
        assert_eq!(ratelimit.1, r#""all";r=1;t=2, "each";r=0;t=1"#);
    }
    assert!(is_allowed(&decide(2)) && is_allowed(&decide(3)), "two were left to the others");
    assert!(!is_allowed(&decide(4)));
}

#[test]
fn a_request_takes_what_it_costs() {
    let limiter = several(json!([with(json!({ "burst": 7, "cost": 3 }))]));
    let shared = Shared::default();
    let allowed =
        (0..4).filter(|_| is_allowed(&limiter.decide("p", &Request::default(), &shared, 1, NOW, None)));
    assert_eq!(allowed.count(), 2);
}

#[test]
fn a_limit_in_shadow_mode_counts_and_refuses_nothing() {
    let limiter = several(json!([with(json!({ "shadow": true }))]));
    let shared = Shared::default();
    for shadowed in [false, true, true] {
        let Decision::Allow(allowed) = limiter.decide("p", &Request::default(), &shared, 1, NOW, None) else {
            panic!("refused")
        };
        assert_eq!(allowed.shadowed, shadowed);
    }
    assert!(is_allowed(&limiter.decide("p", &Request::default(), &Broken, 1, NOW, None)));
}

#[test]
fn most_requests_of_a_large_bucket_reach_no_shared_data() {
    let (limiter, shared) = (limiter(json!([]), 1_000_000, 1_000_000), Shared::default());
    for _ in 0..10_000 {
        assert!(is_allowed(&limiter.decide("p", &Request::default(), &shared, 1, NOW, None)));
    }
    assert_eq!(shared.next.load(Ordering::Relaxed), 1);
}

/// A limit that all Envoys share, with `changes` to it.
fn shared(changes: serde_json::Value) -> serde_json::Value {
    let mut limit = with(json!({
        "limit": 1000, "burst": 1000, "global": { "lease_ms": 2000, "alone_percent": null },
    }));
    for (name, value) in changes.as_object().unwrap() {
        limit[name] = value.clone();
    }
    limit
}

/// Answers the call that is due, whose asks are granted as many tokens each, or none.
fn answer(leases: &mut lease::Leases, tokens: u64) -> usize {
    let now = u64::try_from(NOW.as_nanos()).unwrap();
    let refill = leases.refill(now, 1_000_000_000).unwrap();
    let answer = match tokens {
        0 => lease::Answer::Over(Duration::from_secs(3)),
        tokens => lease::Answer::Granted { tokens, remaining: 0 },
    };
    leases.answered(refill.id, &vec![answer; refill.returns.len() + refill.asks.len()], now);
    refill.asks.len()
}

fn held(leases: &mut lease::Leases) -> u64 {
    leases.held(u64::try_from(NOW.as_nanos()).unwrap())
}

#[test]
fn a_request_of_several_shared_limits_waits_for_one_call_and_holds_nothing_meanwhile() {
    let limiter = several(json!([
        with(json!({ "name": "own", "burst": 1 })),
        shared(json!({ "name": "a", "cost": 2 })),
        shared(json!({ "name": "b", "key": ["client_address"], "cost": 3 })),
    ]));
    let (slots, mut leases) = (Shared::default(), lease::Leases::new(10, 1));
    let decision = limiter.decide("p", &Request::default(), &slots, 1, NOW, Some(&mut leases));
    let Decision::Wait(waiting) = decision else { panic!("{decision:?}") };
    assert_eq!(answer(&mut leases, 9), 2, "both ask at once");
    let decision = limiter.decide_again(waiting, &slots, 1, NOW, &mut leases);
    let Decision::Allow(Allowed { quota: Some(quota), .. }) = decision else { panic!("{decision:?}") };
    let mut told = String::new();
    quota.headers(|name, value| told.push_str(if name == "ratelimit" { value } else { "" }));
    assert_eq!(told, r#""own";r=0;t=1, "a";r=7;t=1, "b";r=6;t=1"#);
    assert_eq!(held(&mut leases), 7 + 6);
}

#[test]
fn calls_for_other_keys_do_not_use_up_the_patience_of_a_request() {
    let limiter = several(json!([shared(json!({ "name": "a" }))]));
    let (slots, mut leases) = (Shared::default(), lease::Leases::new(10, 1));
    let decision = limiter.decide("p", &Request::default(), &slots, 1, NOW, Some(&mut leases));
    let Decision::Wait(mut waiting) = decision else { panic!("{decision:?}") };
    for _ in 0..20 {
        match limiter.decide_again(waiting, &slots, 1, NOW, &mut leases) {
            Decision::Wait(again) => waiting = again,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answer(&mut leases, 9), 1, "it is asked for once");
    assert!(is_allowed(&limiter.decide_again(waiting, &slots, 1, NOW, &mut leases)));
}

#[test]
fn what_a_later_limit_refuses_is_put_back_into_the_lease() {
    let limiter = several(json!([
        shared(json!({ "name": "a", "cost": 2 })),
        with(json!({ "name": "own", "key": ["client_address"] })),
    ]));
    let (slots, mut leases) = (Shared::default(), lease::Leases::new(10, 1));
    let decision = limiter.decide("p", &Request::default(), &slots, 1, NOW, Some(&mut leases));
    let Decision::Wait(waiting) = decision else { panic!("{decision:?}") };
    answer(&mut leases, 9);
    assert!(is_allowed(&limiter.decide_again(waiting, &slots, 1, NOW, &mut leases)));
    for _ in 0..5 {
        let decision = limiter.decide("p", &Request::default(), &slots, 1, NOW, Some(&mut leases));
        assert!(matches!(decision, Decision::Limit(_)), "{decision:?}");
    }
    assert_eq!(held(&mut leases), 7);
}

#[test]
fn a_shared_limit_in_shadow_mode_neither_refuses_nor_holds_up() {
    let limiter = several(json!([shared(json!({ "shadow": true }))]));
    let (slots, mut leases) = (Shared::default(), lease::Leases::new(10, 1));
    let decide = |leases: Option<&mut lease::Leases>| match limiter.decide(
        "p",
        &Request::default(),
        &slots,
        1,
        NOW,
        leases,
    ) {
        Decision::Allow(allowed) => allowed.shadowed,
        decision => panic!("{decision:?}"),
    };
    assert!(!decide(Some(&mut leases)), "not known yet");
    answer(&mut leases, 0);
    assert!(decide(Some(&mut leases)), "it would have refused");
    assert!(!decide(None));
}

#[test]
fn while_nobody_can_say_an_envoy_alone_allows_its_share_or_nothing() {
    for (percent, passed) in [(json!(null), 0), (json!(10), 100)] {
        let global = json!({ "lease_ms": 2000, "alone_percent": percent });
        let limiter = several(json!([shared(json!({ "global": global }))]));
        let slots = Shared::default();
        let decide = || limiter.decide("p", &Request::default(), &slots, 1, NOW, None);
        assert_eq!((0..200).filter(|_| is_allowed(&decide())).count(), passed);
    }
}

#[test]
fn what_a_plan_gave_comes_back_to_its_own_bucket() {
    let plans = json!({
        "by": { "claim": "plan" },
        "limits": { "gold": { "name": "p:gold", "limit": 3, "period_ms": 3_600_000, "burst": 3 } },
    });
    let limiter = several(json!([
        with(json!({ "period_ms": 3_600_000, "plans": plans })),
        with(json!({ "name": "p/2", "key": [{ "header": "x-a" }], "period_ms": 3_600_000 })),
    ]));
    let shared = Shared::default();
    let decide = |plan: &'static str, value: &str| {
        let headers = vec![("x-a", value.as_bytes().to_vec())];
        let request = Request { headers, claims: vec![("plan", plan)], ..Request::default() };
        is_allowed(&limiter.decide("p", &request, &shared, 1, NOW, None))
    };
    assert!(decide("gold", "a"));
    for _ in 0..9 {
        assert!(!decide("gold", "a"), "over the second limit");
    }
    assert_eq!([decide("gold", "b"), decide("gold", "c"), decide("gold", "d")], [true, true, false]);
    assert_eq!([decide("tin", "e"), decide("", "f")], [true, false], "those without a plan of their own");
}

#[test]
fn limits_of_a_plan_are_checked_as_others_are() {
    for (plan, field) in [
        (json!({ "limit": 0, "period_ms": 1, "burst": 1 }), "limit"),
        (json!({ "limit": 1, "period_ms": 0, "burst": 1 }), "period_ms"),
        (json!({ "limit": 1, "period_ms": 1, "burst": 1 }), "burst"),
    ] {
        let mut plan = plan;
        plan["name"] = "p:a".into();
        let plans = json!({ "by": { "header": "x-plan" }, "limits": { "a": plan } });
        let limits = json!([with(json!({ "cost": 2, "burst": 2, "plans": plans }))]);
        let config = json!({ "policies": { "p": { "limits": limits, "headers": "always" } } });
        let error = Limiter::from_json(config.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.path, format!("policies.p.limits[0].plans.limits.a.{field}"));
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
        let request =
            Request { headers: vec![("x-a", header)], address, route: garbage.clone(), ..Request::default() };
        let shared = Shared::default();
        let place = Place::of(&limiter.policies["p"].limits[0].key(&request).bytes, 1);
        shared.slots.lock().unwrap().insert(place.slot, ([vec![1], garbage].concat(), 7));
        for _ in 0..3 {
            let _ = limiter.decide("p", &request, &shared, 1, Duration::from_nanos(now), None);
        }
    }

    /// Workers with leases, in any order and with any pauses: in no window more than the bucket and what came back.
    #[test]
    fn leases_never_admit_more_than_burst_and_rate(
        limit in 1..2_000_u64, burst in 1..2_000_u64,
        steps in proptest::collection::vec((0..3_usize, 0..80_u64, 0..30_000_000_u64), 1..60),
    ) {
        // Each tenth request is refused by another limit, and gives back what it took from this one.
        let limits = json!([
            with(json!({ "limit": limit, "burst": burst })),
            with(json!({ "name": "other", "key": [{ "header": "x-tenth" }], "limit": 1_000_000, "burst": 1_000_000, "cost": 1_000_000 })),
        ]);
        let (workers, shared) = ([(); 3].map(|()| several(limits.clone())), Shared::default());
        let mut number = 0_u64;
        let mut request = || {
            number += 1;
            let tenth = if number.is_multiple_of(10) { 0 } else { number };
            Request { headers: vec![("x-tenth", tenth.to_le_bytes().to_vec())], ..Request::default() }
        };
        let (mut now, mut admitted) = (NOW, Vec::new());
        for (worker, requests, pause) in steps {
            now += Duration::from_nanos(pause);
            let allowed = (0..requests)
                .filter(|_| is_allowed(&workers[worker].decide("p", &request(), &shared, 1, now, None)));
            admitted.push((now, allowed.count() as u128));
        }
        for (first, (from, _)) in admitted.iter().enumerate() {
            let mut count = 0;
            for (to, more) in &admitted[first..] {
                count += more;
                let refilled = (*to - *from).as_nanos() * u128::from(limit) / 1_000_000_000;
                prop_assert!(count <= u128::from(burst) + refilled + 1, "{count} of {burst} + {refilled}");
            }
        }
    }

    #[test]
    fn any_configuration_is_survived(json in ".{0,100}") {
        let _ = Limiter::from_json(json.as_bytes());
    }
}
