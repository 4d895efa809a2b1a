//! Leases: tokens of shared buckets that the quota service debited and granted to one worker of one Envoy.
//!
//! A request takes a token that is already here, so it costs no call. What is needed, and how much, is found on the way:
//!
//! - A key that is new, or used up, is *due*. The next call asks for all due keys at once. A request that found nothing
//!   waits for that call, and no longer.
//! - How many tokens are asked for follows how fast they went: about half a lease's worth, at most a quarter of the bucket.
//!   A key is due again when a quarter of them is left.
//! - What is left when a lease is over is given back, once and without a retry: a token that may have been given back is
//!   never used, and one that may have been used is never given back. So whatever is lost (a call, a worker, an Envoy) was
//!   counted as used, and comes back as used tokens do: with the rate.
//! - A key that got less than it asked for is over its limit until the service is asked again, at most every few
//!   milliseconds, at least every second.
//!
//! A lease counts from the moment at which it was *asked for*, on this worker's clock: it ends here before it ends there.
//!
//! No call is made here, no clock read; `wire` has the bytes of the call.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::bucket::Outcome;

mod entry;
mod refills;
mod sizing;
#[cfg(test)]
mod tests;
pub mod wire;

use entry::{Entry, Stage};
pub use refills::Refills;

/// Asks of one call at most.
const MAX_ASKS: usize = 400;
/// Returns of one call at most.
const MAX_RETURNS: usize = 400;
/// Calls under way at most.
const MAX_CALLS: usize = 4;
/// Keys that are due, and returns that wait, at most. Beyond, requests can't be counted, and returns are lost.
const MAX_WAITING: usize = 4_096;
/// Time between two looks for leases that are over.
const SWEEP: u64 = 250_000_000;
/// Time before a service that failed is asked again: the first, and the longest, in nanoseconds.
const BACKOFF: [u64; 2] = [200_000_000, 2_000_000_000];
/// How long a limit that the service does not know is not asked for again.
const UNKNOWN: u64 = 1_000_000_000;

/// What a limit says of its leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The limit's name.
    pub policy: String,
    /// Time that refills one token, in nanoseconds, rounded up.
    pub token: u64,
    /// Tokens of a full bucket.
    pub burst: u64,
    /// Tokens that a request takes: at least 1, at most `burst`.
    pub cost: u64,
    /// How long a lease is, in nanoseconds.
    pub lease: u64,
}

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Its tokens.
    Token(Outcome),
    /// None: the key is over its limit.
    Over(Outcome),
    /// None yet: they are asked for; try again when the next call is answered.
    Wait,
    /// The same, and they are still asked for as they were.
    StillWait,
    /// Nobody can say.
    Away,
}

/// One call to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refill {
    /// For [`Leases::answered`] and [`Leases::failed`].
    pub id: u64,
    /// Unused tokens that go back.
    pub returns: Vec<Tokens>,
    /// Tokens that are asked for.
    pub asks: Vec<Tokens>,
}

/// A number of tokens of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Its limit.
    pub terms: Arc<Terms>,
    /// The key, as [`Leases::take`] had it.
    pub key: Rc<[u8]>,
    /// How many.
    pub tokens: u64,
}

/// What the service says to one ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// So many tokens, and what is left in the bucket.
    Granted {
        /// Tokens granted, at least one.
        tokens: u64,
        /// Tokens that others can still take.
        remaining: u64,
    },
    /// None, and for how long.
    Over(Duration),
    /// It does not know the limit.
    Unknown,
}

/// All leases of one worker.
#[derive(Debug)]
pub struct Leases {
    /// Two generations, as in `cache`: entries in use stay, and memory is bounded.
    young: HashTable<Entry>,
    old: HashTable<Entry>,
    capacity: usize,
    seed: u64,
    due: Vec<Rc<[u8]>>,
    returns: Vec<Tokens>,
    calls: Vec<Call>,
    next_id: u64,
    swept: u64,
    failures: u32,
    /// Until when the service is not asked.
    away_until: u64,
}

#[derive(Debug)]
struct Call {
    id: u64,
    sent: u64,
    asks: Vec<Tokens>,
    returns: usize,
}

impl Leases {
    /// No leases. At most `2 * capacity` keys are known at a time; `seed` should differ between VMs.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            young: HashTable::new(),
            old: HashTable::new(),
            capacity: capacity.max(1),
            seed,
            due: Vec::new(),
            returns: Vec::new(),
            calls: Vec::new(),
            next_id: 1,
            swept: 0,
            failures: 0,
            away_until: 0,
        }
    }

    /// Takes what a request costs from `key` at `now`, in nanoseconds.
    pub fn take(&mut self, key: &[u8], terms: &Arc<Terms>, now: u64) -> Taken {
        self.take_for(key, terms, now, false)
    }

    /// The same for a request that waited for it.
    pub fn take_again(&mut self, key: &[u8], terms: &Arc<Terms>, now: u64) -> Taken {
        self.take_for(key, terms, now, true)
    }

    fn take_for(&mut self, key: &[u8], terms: &Arc<Terms>, now: u64, waited: bool) -> Taken {
        let away = self.is_away(now);
        let (failing, crowded) = (self.failures > 0, self.due.len() >= MAX_WAITING);
        let entry = self.entry(key, terms);
        entry.begin(now);
        let (taken, wants) = if entry.take(now) {
            (Taken::Token(entry.outcome(true, now)), entry.is_low() && !entry.is_over(now))
        } else if entry.is_over(now) {
            (Taken::Over(entry.outcome(false, now)), false)
        } else if away || entry.is_unknown(now) || crowded {
            (Taken::Away, false)
        } else if failing {
            // Somebody has to find out whether it is back, but nobody has to wait for it.
            (Taken::Away, true)
        } else if waited && entry.stage != Stage::Idle {
            // Another call was answered.
            (Taken::StillWait, false)
        } else {
            entry.waiting = entry.waiting.saturating_add(entry.terms.cost);
            (Taken::Wait, true)
        };
        if wants && !away && !crowded && entry.stage == Stage::Idle {
            entry.stage = Stage::Due;
            let key = Rc::clone(&entry.key);
            self.due.push(key);
        }
        taken
    }

    /// Puts back what a request took at `now`, which is refused for another reason. What can't be put back counts as used.
    pub fn put_back(&mut self, key: &[u8], now: u64) {
        if let Some(entry) = self.find(key) {
            entry.put_back(now);
        }
    }

    /// Whether a call should be made soon.
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether anything is held, on its way, or to be given back: then [`Self::refill`] must go on being asked.
    pub fn is_idle(&self) -> bool {
        self.young.is_empty() && self.old.is_empty() && self.returns.is_empty() && self.calls.is_empty()
    }

    /// The next call, if one should be made at `now`. Calls that were not answered for `timeout` have failed.
    pub fn refill(&mut self, now: u64, timeout: u64) -> Option<Refill> {
        let overdue = |call: &&Call| now.saturating_sub(call.sent) > timeout;
        if let Some(id) = self.calls.iter().find(overdue).map(|call| call.id) {
            self.failed(id, now);
        }
        if now.saturating_sub(self.swept) >= SWEEP || now < self.swept {
            self.swept = now;
            self.sweep(now);
        }
        if self.calls.len() >= MAX_CALLS || self.is_away(now) {
            return None;
        }
        let asks = self.asks(now);
        let returns: Vec<Tokens> = self.returns.drain(..self.returns.len().min(MAX_RETURNS)).collect();
        if asks.is_empty() && returns.is_empty() {
            return None;
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.calls.push(Call { id, sent: now, asks: asks.clone(), returns: returns.len() });
        Some(Refill { id, returns, asks })
    }

    /// The service answered a call: to each return, then to each ask, in their order.
    pub fn answered(&mut self, id: u64, answers: &[Answer], now: u64) {
        let Some(call) = self.remove(id) else { return };
        if answers.len() != call.asks.len().saturating_add(call.returns) {
            return self.fail(call, now);
        }
        self.failures = 0;
        for (ask, answer) in call.asks.iter().zip(answers.iter().skip(call.returns)) {
            let ends = call.sent.saturating_add(ask.terms.lease);
            let Some(entry) = self.find(&ask.key) else { continue };
            entry.settle();
            let mut unusable = None;
            match *answer {
                Answer::Granted { tokens, remaining } => {
                    entry.grant(tokens, call.sent, ends, remaining);
                    if tokens < ask.tokens {
                        entry.over(now, Duration::from_nanos(ask.terms.token));
                    }
                    // Too few for one request: another worker may have the rest.
                    unusable = entry.give_up();
                }
                Answer::Over(retry_after) => entry.over(now, retry_after),
                Answer::Unknown => entry.unknown_until = now.saturating_add(UNKNOWN),
            }
            give_back(&mut self.returns, unusable);
        }
    }

    /// A call failed, or nobody knows. What it would have granted is lost, and what it gave back is given.
    pub fn failed(&mut self, id: u64, now: u64) {
        if let Some(call) = self.remove(id) {
            self.fail(call, now);
        }
    }

    /// Calls that failed since the last one that was answered.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Tokens held, for tests and metrics.
    pub fn held(&mut self, now: u64) -> u64 {
        let entries = self.young.iter_mut().chain(&mut self.old);
        entries.map(|entry| entry.tokens(now)).sum()
    }

    /// Keys known.
    pub fn len(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_away(&self, now: u64) -> bool {
        // A clock that went back may have left this far ahead.
        now < self.away_until && self.away_until.saturating_sub(now) <= BACKOFF[1]
    }

    fn remove(&mut self, id: u64) -> Option<Call> {
        let index = self.calls.iter().position(|call| call.id == id)?;
        Some(self.calls.swap_remove(index))
    }

    fn fail(&mut self, call: Call, now: u64) {
        for ask in &call.asks {
            if let Some(entry) = self.find(&ask.key) {
                entry.settle();
            }
        }
        let pause = BACKOFF[0].saturating_mul(1 << self.failures.min(8)).min(BACKOFF[1]);
        self.failures = self.failures.saturating_add(1);
        self.away_until = now.saturating_add(pause);
        self.due.clear();
        for entry in self.young.iter_mut().chain(&mut self.old).filter(|entry| entry.stage == Stage::Due) {
            entry.settle();
        }
    }

    fn asks(&mut self, now: u64) -> Vec<Tokens> {
        let due: Vec<Rc<[u8]>> = self.due.drain(..self.due.len().min(MAX_ASKS)).collect();
        let mut asks = Vec::with_capacity(due.len());
        for key in due {
            let Some(entry) = self.find(&key) else { continue };
            if entry.stage == Stage::Due {
                entry.stage = Stage::Asked;
                let tokens = entry.ask(now);
                asks.push(Tokens { terms: Arc::clone(&entry.terms), key, tokens });
            }
        }
        asks
    }

    /// Collects what leases that are over have left, and forgets keys that nobody uses.
    fn sweep(&mut self, now: u64) {
        let returns = &mut self.returns;
        for generation in [&mut self.young, &mut self.old] {
            generation.retain(|entry| {
                entry.begin(now);
                give_back(returns, entry.take_left());
                entry.is_in_use(now)
            });
        }
    }

    fn entry(&mut self, key: &[u8], terms: &Arc<Terms>) -> &mut Entry {
        let (hash, seed) = (xxh3_64_with_seed(key, self.seed), self.seed);
        let is_young = self.young.find(hash, |entry| *entry.key == *key).is_some();
        if !is_young {
            let found = self.old.find_entry(hash, |entry| *entry.key == *key);
            let entry = match found {
                Ok(found) => found.remove().0,
                Err(_) => Entry::new(key.into(), Arc::clone(terms)),
            };
            if self.young.len() >= self.capacity {
                // Both keep their memory: tables that grow anew every time leave holes behind.
                std::mem::swap(&mut self.young, &mut self.old);
                for mut entry in self.young.drain() {
                    entry.abandon();
                    give_back(&mut self.returns, entry.take_left());
                }
            }
            self.young.insert_unique(hash, entry, |entry| xxh3_64_with_seed(&entry.key, seed));
        }
        let entry = self
            .young
            .entry(hash, |entry| *entry.key == *key, |entry| xxh3_64_with_seed(&entry.key, seed))
            .or_insert_with(|| Entry::new(key.into(), Arc::clone(terms)))
            .into_mut();
        if !Arc::ptr_eq(&entry.terms, terms) {
            entry.terms = Arc::clone(terms);
        }
        entry
    }

    fn find(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let hash = xxh3_64_with_seed(key, self.seed);
        let same = |entry: &Entry| *entry.key == *key;
        match self.young.find_mut(hash, same) {
            Some(entry) => Some(entry),
            None => self.old.find_mut(hash, same),
        }
    }
}

fn give_back(returns: &mut Vec<Tokens>, tokens: Option<Tokens>) {
    if returns.len() < MAX_WAITING {
        returns.extend(tokens);
    }
}
