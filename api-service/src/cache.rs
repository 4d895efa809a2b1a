//! A cache in front of the stores, for what is read far more often than it changes.
//!
//! Entries are bytes under text keys, so that Redis can take this over; and the only writes are `put` and
//! `put_if_absent` (Redis `SET` and `SET NX`), because invalidation writes a *tombstone* instead of deleting.
//! A reader that loaded the old value just before the change then fails to put it: a delete would let it.

mod memory;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use memory::MemoryCache;

/// Remembers bytes for a while. May forget at any time: callers fall back to the store.
#[async_trait]
pub trait Cache: Send + Sync {
    /// What is remembered under `key`.
    async fn get(&self, key: &str) -> Option<Bytes>;
    /// Remembers `value`, replacing what was there.
    async fn put(&self, key: &str, value: Bytes, ttl: Duration);
    /// Remembers `value` unless something is remembered already.
    async fn put_if_absent(&self, key: &str, value: Bytes, ttl: Duration);
}
