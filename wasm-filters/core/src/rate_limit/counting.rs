//! Where the tokens of one request's limits come from: this Envoy's slots and the worker's part of them, or leases of a
//! bucket that all Envoys share. What that means for the request is decided in `rate_limit`.

use std::time::Duration;

use super::global::{Source, Waiting};
use super::leases::{self, Leases};
use super::limit::{Key, Limit};
use super::{HostFailure, SharedSlots};
use crate::bucket::{Bucket, Outcome};
use crate::lease;
use crate::slots::{Evicted, Place, Slot};

/// How often a slot is tried before giving up. A try is lost only when another worker wrote the same slot in
/// the microsecond between, so with any number of workers this is far more than ever happens.
const MAX_TRIES: usize = 64;

/// The buckets, wherever their tokens are, at one moment.
pub(super) struct Counting<'a> {
    slots: &'a dyn SharedSlots,
    leases: &'a Leases,
    global: Option<&'a mut lease::Leases>,
    seed: u64,
    now: u64,
}

/// What a limit says of a request.
pub(super) enum Counted {
    /// Counted in this Envoy's own bucket.
    Here(Outcome, Evicted, Place),
    /// Counted in the bucket that all Envoys share.
    Leased(Outcome),
    /// It must be tried again when the quota service has answered; whether it is asked anew.
    Wait { asks: bool },
    /// It can't be counted.
    Nobody,
}

/// Tokens that a request took.
pub(super) struct Taken<'a> {
    /// Which of its limits.
    pub index: usize,
    /// The limit.
    pub limit: &'a Limit,
    /// Where, if it was in this Envoy's own bucket.
    pub place: Option<Place>,
}

impl<'a> Counting<'a> {
    /// At `now`, since the epoch. `global` is needed where a limit is shared.
    pub fn new(
        slots: &'a dyn SharedSlots,
        leases: &'a Leases,
        global: Option<&'a mut lease::Leases>,
        seed: u64,
        now: Duration,
    ) -> Self {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Self { slots, leases, global, seed, now }
    }

    /// Takes what a request costs.
    pub fn count(&mut self, limit: &Limit, key: &Key, request: &Waiting<'_>) -> Counted {
        match &limit.rate_of(key).global {
            None => self.here(limit, key),
            Some(global) => {
                match global.take(&key.bytes, self.global.as_deref_mut(), self.now, request.waited()) {
                    Source::Lease(outcome) => Counted::Leased(outcome),
                    Source::Soon => Counted::Wait { asks: false },
                    Source::Later if request.may_ask() => Counted::Wait { asks: true },
                    Source::Later | Source::Away if global.counts_alone() => self.here(limit, key),
                    Source::Later | Source::Away => Counted::Nobody,
                }
            }
        }
    }

    /// Puts tokens back that a refused request took. What can't be put back is lost, and admits less.
    pub fn give_back(&mut self, keys: &[Key], taken: &[Taken<'_>]) {
        for Taken { index, limit, place } in taken {
            let Some(key) = keys.get(*index) else { continue };
            match (place, &mut self.global) {
                (Some(place), _) => self.put_back(&limit.rate_of(key).bucket, *place, limit.cost),
                (None, Some(leases)) => leases.put_back(&key.bytes, self.now),
                (None, None) => {}
            }
        }
    }

    fn here(&self, limit: &Limit, key: &Key) -> Counted {
        let place = Place::of(&key.bytes, self.seed);
        match self.take(&limit.rate_of(key).bucket, place, limit.cost) {
            Ok((outcome, evicted)) => Counted::Here(outcome, evicted, place),
            Err(HostFailure) => Counted::Nobody,
        }
    }

    /// Takes tokens from the bucket at `place`, exactly once whatever the other workers do: the slot is
    /// written only if it is still what was read.
    fn take(&self, bucket: &Bucket, place: Place, tokens: u64) -> Result<(Outcome, Evicted), HostFailure> {
        if let Some(outcome) = self.leases.take(bucket, place, tokens, self.now) {
            return Ok((outcome, Evicted::Nothing));
        }
        for _ in 0..MAX_TRIES {
            let (bytes, version) = self.slots.read(place.slot)?;
            let mut slot = Slot::new(bytes);
            let tat = slot.tat(place.fingerprint);
            let outcome = bucket.take(tat, tokens, self.now);
            if outcome.tat == tat {
                // Nothing to write: a refused request costs nothing.
                return Ok((outcome, Evicted::Nothing));
            }
            let lease = if outcome.allowed { leases::share(outcome.remaining) } else { 0 };
            let tat = outcome.tat.saturating_add(bucket.time_of(lease));
            let evicted = slot.put(place.fingerprint, tat, self.now);
            if self.slots.write(place.slot, slot.as_bytes(), version)? {
                self.leases.grant(place, lease, outcome.remaining, self.now);
                return Ok((outcome, evicted));
            }
        }
        Err(HostFailure)
    }

    fn put_back(&self, bucket: &Bucket, place: Place, tokens: u64) {
        if self.leases.give_back(place, tokens) {
            return;
        }
        for _ in 0..MAX_TRIES {
            let Ok((bytes, version)) = self.slots.read(place.slot) else { break };
            let mut slot = Slot::new(bytes);
            let tat = bucket.give_back(slot.tat(place.fingerprint), tokens);
            slot.put(place.fingerprint, tat, self.now);
            match self.slots.write(place.slot, slot.as_bytes(), version) {
                Ok(false) => {}
                Ok(true) | Err(HostFailure) => break,
            }
        }
    }
}
