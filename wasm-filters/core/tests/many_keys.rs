//! A million keys through one limit of one Envoy: what its slots hold, and how exact a hot key's limit stays.
//!
//! `cargo test -p tollgate-filter-core --test many_keys -- --nocapture` shows the figures.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in a test, what cannot go on is a failure")]

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use serde_json::json;
use tollgate_filter_core::rate_limit::{Decision, HostFailure, KeySource, Limiter, SharedSlots};
use tollgate_filter_core::slots::{SLOTS, WAYS};

const KEYS: u64 = 1_000_000;
const START: Duration = Duration::from_secs(1_700_000_000);

/// The slots of one Envoy.
struct Slots(RefCell<Vec<(Vec<u8>, u32)>>);

impl SharedSlots for Slots {
    fn read(&self, slot: usize) -> Result<(Vec<u8>, Option<u32>), HostFailure> {
        let slots = self.0.borrow();
        Ok((slots[slot].0.clone(), Some(slots[slot].1)))
    }

    fn write(&self, slot: usize, bytes: &[u8], version: Option<u32>) -> Result<bool, HostFailure> {
        let mut slots = self.0.borrow_mut();
        let slot = &mut slots[slot];
        let is_newest = Some(slot.1) == version;
        if is_newest {
            *slot = (bytes.to_vec(), slot.1 + 1);
        }
        Ok(is_newest)
    }
}

/// A request of one client.
struct From(u64);

impl KeySource for From {
    fn consumer(&self) -> Option<Cow<'_, [u8]>> {
        Some(self.0.to_le_bytes().to_vec().into())
    }
    fn claim(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
    fn header(&self, _: &str) -> Vec<Cow<'_, [u8]>> {
        Vec::new()
    }
    fn client_address(&self) -> Vec<u8> {
        Vec::new()
    }
    fn route_name(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// What came of it.
struct Figures {
    /// Requests of the hot key that passed, beyond what its bucket alone would have let pass.
    excess: i64,
    /// Buckets in use that were forgotten.
    evicted: u64,
    /// Bytes of all slots.
    bytes: usize,
}

/// A million keys, each with one request, at so many a second; a hot key asks after every hundredth.
fn crowd(limit: u64, period: Duration, burst: u64, per_second: u64) -> Figures {
    let limit_of = json!({
        "name": "p", "key": ["consumer"], "limit": limit, "period_ms": period.as_millis() as u64, "burst": burst, "cost": 1,
        "shadow": false,
    });
    let config = json!({ "policies": { "p": { "limits": [limit_of], "headers": "limited" } } });
    let limiter = Limiter::from_json(config.to_string().as_bytes()).unwrap();
    let slots = Slots(RefCell::new(vec![(Vec::new(), 0); SLOTS]));
    let alone = Slots(RefCell::new(vec![(Vec::new(), 0); SLOTS]));
    // Seeded as workers are; any seed does.
    let decide = |slots: &Slots, key: u64, now| limiter.decide("p", &From(key), slots, 42, now, None);
    let lone = Limiter::from_json(config.to_string().as_bytes()).unwrap();
    let (mut evicted, mut hot, mut alone_hot) = (0, 0, 0);
    for key in 1..=KEYS {
        let now = START + Duration::from_nanos(key * 1_000_000_000 / per_second);
        let Decision::Allow(allowed) = decide(&slots, key, now) else { panic!("a first request is refused") };
        evicted += u64::from(allowed.evicted);
        if key % 100 == 0 {
            if let Decision::Allow(allowed) = decide(&slots, 0, now) {
                hot += 1;
                evicted += u64::from(allowed.evicted);
            }
            let decision = lone.decide("p", &From(0), &alone, 42, now, None);
            alone_hot += i64::from(matches!(decision, Decision::Allow(_)));
        }
    }
    let bytes = slots.0.borrow().iter().map(|(bytes, _)| bytes.len()).sum();
    Figures { excess: hot - alone_hot, evicted, bytes }
}

fn told(what: &str, figures: &Figures) {
    println!(
        "{what}: {KEYS} keys, {} buckets in use forgotten, the hot key {} requests too many, {} bytes of slots",
        figures.evicted, figures.excess, figures.bytes
    );
    assert!(figures.bytes <= SLOTS * (1 + WAYS * 16), "slots grow: {}", figures.bytes);
}

#[test]
fn keys_that_come_once_cost_a_hot_key_nothing() {
    let short = crowd(100, Duration::from_secs(1), 100, 10_000);
    told("100/s", &short);
    assert_eq!((short.excess, short.evicted), (0, 0), "a cold bucket is full again after 10 ms");
    // The bucket that is nearest to full goes first, and the hot key's is the furthest from it.
    let long = crowd(100, Duration::from_secs(3_600), 100, 10_000);
    told("100/h", &long);
    assert_eq!(long.excess, 0);
    assert!(long.evicted > 900_000, "{}", long.evicted);
}

#[test]
fn keys_that_use_up_their_buckets_let_a_hot_key_begin_anew_now_and_then() {
    let figures = crowd(1, Duration::from_secs(3_600), 1, 10_000);
    told("1/h, each key uses up its burst", &figures);
    // One more burst for every 32,768 keys, as many as the slots hold: nothing else is forgotten.
    let bursts = i64::try_from(KEYS).unwrap() / (SLOTS * WAYS) as i64;
    assert!((1..=2 * bursts).contains(&figures.excess), "{} of about {bursts}", figures.excess);
}
