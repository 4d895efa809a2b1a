//! Buckets in this process. A restart forgets them, which is a cold start; several xds-servers each have their own.

use std::collections::HashMap;
use std::sync::Mutex;

use tollgate_filter_core::quota::{Debit, Micros};

use super::{BucketId, Kind, Operation, Outcome, StoreError};
use crate::status::lock;

/// Buckets that are not full, at most: about 64 MB.
const MAX_BUCKETS: usize = 1_000_000;

/// The store.
#[derive(Debug)]
pub struct Memory {
    inner: Mutex<Inner>,
    max_buckets: usize,
}

#[derive(Debug, Default)]
struct Inner {
    states: HashMap<BucketId, Micros>,
    /// Full buckets are swept out when there are this many.
    sweep_at: usize,
    /// The clock never goes back, whatever the system's does.
    now: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(MAX_BUCKETS)
    }
}

impl Memory {
    /// An empty store with room for so many buckets that are not full.
    pub fn new(max_buckets: usize) -> Self {
        Self { inner: Mutex::new(Inner { sweep_at: 1_024, ..Inner::default() }), max_buckets }
    }

    /// Does a batch, at `now` in microseconds since the epoch.
    ///
    /// # Errors
    /// When there is no room for another bucket: forgetting one that is not full would break its limit.
    pub fn apply(&self, batch: &[Operation], now: u64) -> Result<Vec<Outcome>, StoreError> {
        let mut inner = lock(&self.inner);
        inner.now = inner.now.max(now);
        let now = inner.now;
        if inner.states.len().saturating_add(batch.len()) > inner.sweep_at.min(self.max_buckets) {
            inner.states.retain(|_, state| state.whole >= now);
            inner.sweep_at = inner.states.len().saturating_mul(2).max(1_024);
            if inner.states.len().saturating_add(batch.len()) > self.max_buckets {
                return Err(StoreError::Full(inner.states.len()));
            }
        }
        Ok(batch.iter().map(|operation| inner.one(operation, now)).collect())
    }

    /// Buckets that are kept.
    pub fn len(&self) -> usize {
        lock(&self.inner).states.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn one(&mut self, operation: &Operation, now: u64) -> Outcome {
        let Operation { bucket, kind, tokens, limit } = operation;
        let before = self.states.get(bucket).copied().unwrap_or_default();
        let (taken, state) = match kind {
            Kind::Whole => limit.debit(before, now, *tokens, Debit::Whole),
            Kind::UpTo => limit.debit(before, now, *tokens, Debit::UpTo),
            Kind::Credit(_) => (0, limit.credit(before, now, *tokens)),
        };
        if state.whole < now {
            self.states.remove(bucket);
        } else if state != before {
            self.states.insert(*bucket, state);
        }
        Outcome { taken, state, now }
    }
}
