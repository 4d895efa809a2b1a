//! The cache within this process: bounded in entries, oldest out first.
//!
//! First in, first out costs nothing on a hit; with lifetimes of seconds, recency would buy little.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::Cache;

/// See the module's documentation.
#[derive(Debug)]
pub struct MemoryCache {
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<String, Entry>,
    /// Every write in order. A key written again stands here twice; `written` tells which one counts.
    order: VecDeque<(String, u64)>,
    writes: u64,
}

#[derive(Debug)]
struct Entry {
    value: Bytes,
    expires_at: Instant,
    written: u64,
}

impl MemoryCache {
    /// A cache of at most `capacity` entries (at least one).
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), entries: Mutex::default() }
    }

    /// A panic elsewhere leaves the maps usable: at worst an entry is missing.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn live(&self, key: &str) -> Option<&Entry> {
        self.by_key.get(key).filter(|entry| entry.expires_at > Instant::now())
    }

    fn write(&mut self, key: &str, value: Bytes, ttl: Duration, capacity: usize) {
        self.writes += 1;
        let expires_at = Instant::now() + ttl;
        self.by_key.insert(key.to_owned(), Entry { value, expires_at, written: self.writes });
        self.order.push_back((key.to_owned(), self.writes));
        // The second bound keeps rewrites of few keys from growing `order`.
        while self.by_key.len() > capacity || self.order.len() > capacity * 2 {
            let Some((oldest, written)) = self.order.pop_front() else { break };
            if self.by_key.get(&oldest).is_some_and(|entry| entry.written == written) {
                self.by_key.remove(&oldest);
            }
        }
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        self.entries().live(key).map(|entry| entry.value.clone())
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        self.entries().write(key, value, ttl, self.capacity);
    }

    async fn put_if_absent(&self, key: &str, value: Bytes, ttl: Duration) {
        let mut entries = self.entries();
        if entries.live(key).is_none() {
            entries.write(key, value, ttl, self.capacity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_oldest_entries_leave_a_full_cache() {
        let cache = MemoryCache::new(2);
        for key in ["a", "b", "c"] {
            cache.put(key, Bytes::from(key), MINUTE).await;
        }
        assert_eq!(cache.get("a").await, None);
        assert_eq!(cache.get("b").await, Some(Bytes::from("b")));
        assert_eq!(cache.get("c").await, Some(Bytes::from("c")));
    }

    #[tokio::test]
    async fn rewriting_one_key_does_not_grow_the_cache() {
        let cache = MemoryCache::new(4);
        for _ in 0..1000 {
            cache.put("a", Bytes::new(), MINUTE).await;
        }
        assert!(cache.entries().order.len() <= 8);
        assert_eq!(cache.get("a").await, Some(Bytes::new()));
    }
}
