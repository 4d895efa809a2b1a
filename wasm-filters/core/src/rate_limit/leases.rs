//! Tokens that a worker took from a shared bucket before it needs them, so that most requests reach no shared data.
//!
//! A bucket never admits more than without leases. They are taken from it when they are granted, and what is left of one
//! melts as fast as the bucket refills: a bucket and the leases on it never hold more than its size together. It may
//! refuse a request while other workers hold tokens; a lease is a [`share`] of what is left, so these are few, and none
//! where a bucket is small.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::bucket::{Bucket, Outcome};
use crate::cache::Cache;
use crate::slots::Place;

/// Leases held in each of two generations. One that is dropped is lost to its bucket, until that has refilled.
const PER_GENERATION: usize = 1024;
/// What part of a bucket's tokens one worker may hold.
const PART: u64 = 64;

/// Tokens to take ahead from a bucket that has `remaining`.
pub fn share(remaining: u64) -> u64 {
    remaining / PART
}

/// The leases of one worker.
#[derive(Debug)]
pub struct Leases(RefCell<Cache<Rc<Cell<Lease>>>>);

#[derive(Debug, Clone, Copy)]
struct Lease {
    granted: u64,
    used: u64,
    /// Tokens that were left in the bucket.
    rest: u64,
    /// When it was granted, in nanoseconds since the epoch.
    at: u64,
}

impl Leases {
    /// No leases.
    pub fn new() -> Self {
        // Keys are hashes already, under a seed that nobody knows.
        Self(RefCell::new(Cache::new(PER_GENERATION, 0)))
    }

    /// Takes tokens from a lease; `None` where there is none with so many.
    pub fn take(&self, bucket: &Bucket, place: Place, tokens: u64, now: u64) -> Option<Outcome> {
        let cell = self.0.borrow_mut().get(0, &key(place))?;
        let mut lease = cell.get();
        // A clock that went back would make it last longer.
        let refilled = bucket.refilled_in(now.checked_sub(lease.at)?);
        let molten = lease.granted.checked_sub(refilled)?;
        lease.used =
            lease.used.checked_add(tokens).filter(|used| *used <= lease.granted && tokens <= molten)?;
        cell.set(lease);
        let left = lease.granted.saturating_sub(lease.used).min(molten.saturating_sub(tokens));
        let remaining = lease.rest.saturating_add(refilled).saturating_add(left).min(bucket.size());
        let missing = bucket.size().saturating_sub(remaining);
        Some(Outcome {
            allowed: true,
            tat: 0,
            remaining,
            reset: Duration::from_nanos(bucket.time_of(missing)),
            retry_after: Duration::ZERO,
        })
    }

    /// Puts tokens back into the lease that they came from; `false` where none took so many. They may not go to the
    /// bucket instead: with the lease, which melts in time alone, it would hold more than its size.
    pub fn give_back(&self, place: Place, tokens: u64) -> bool {
        let Some(cell) = self.0.borrow_mut().get(0, &key(place)) else { return false };
        let mut lease = cell.get();
        let Some(used) = lease.used.checked_sub(tokens) else { return false };
        lease.used = used;
        cell.set(lease);
        true
    }

    /// Remembers `granted` tokens that were taken ahead of a bucket that had `remaining`, them included.
    pub fn grant(&self, place: Place, granted: u64, remaining: u64, now: u64) {
        if granted > 0 {
            let rest = remaining.saturating_sub(granted);
            let lease = Lease { granted, used: 0, rest, at: now };
            self.0.borrow_mut().insert(0, &key(place), Rc::new(Cell::new(lease)));
        }
    }
}

fn key(place: Place) -> [u8; 12] {
    let mut key = [0; 12];
    let (slot, fingerprint) = key.split_at_mut(4);
    slot.copy_from_slice(&(place.slot as u32).to_le_bytes());
    fingerprint.copy_from_slice(&place.fingerprint.to_le_bytes());
    key
}
