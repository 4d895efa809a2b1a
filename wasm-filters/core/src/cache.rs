//! A bounded map from bytes to values, in constant time and memory.
//!
//! Two generations: when the young one is full it becomes the old one, and the old one is dropped. What is
//! looked up in the old generation moves to the young one, so entries in use stay. That is close to
//! least-recently-used without a linked list. Expiry is not known here; values carry their own.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Up to `2 * capacity` entries. Keys are compared whole, so a hash collision costs time, never a mix-up.
#[derive(Debug)]
pub struct Cache<V> {
    young: HashTable<Entry<V>>,
    old: HashTable<Entry<V>>,
    capacity: usize,
    seed: u64,
}

#[derive(Debug)]
struct Entry<V> {
    scope: u32,
    key: Box<[u8]>,
    value: V,
}

impl<V: Clone> Cache<V> {
    /// A cache whose generations hold `capacity` entries each (none: nothing is remembered). `seed` should
    /// differ from one VM to the next, since hash seeds are constant on wasm32.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self { young: HashTable::new(), old: HashTable::new(), capacity, seed }
    }

    /// The value of `key` in `scope` (for example a policy: the same bytes mean another thing in another).
    pub fn get(&mut self, scope: u32, key: &[u8]) -> Option<V> {
        let hash = hash(self.seed, scope, key);
        let same = |entry: &Entry<V>| entry.scope == scope && *entry.key == *key;
        if let Some(entry) = self.young.find(hash, same) {
            return Some(entry.value.clone());
        }
        let (entry, _) = self.old.find_entry(hash, same).ok()?.remove();
        let value = entry.value.clone();
        self.push(hash, entry);
        Some(value)
    }

    /// Remembers `value`, in place of what was there.
    pub fn insert(&mut self, scope: u32, key: &[u8], value: V) {
        if self.capacity == 0 {
            return;
        }
        self.remove(scope, key);
        self.push(hash(self.seed, scope, key), Entry { scope, key: key.into(), value });
    }

    /// Forgets `key`.
    pub fn remove(&mut self, scope: u32, key: &[u8]) {
        let hash = hash(self.seed, scope, key);
        let same = |entry: &Entry<V>| entry.scope == scope && *entry.key == *key;
        for generation in [&mut self.young, &mut self.old] {
            if let Ok(entry) = generation.find_entry(hash, same) {
                entry.remove();
            }
        }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, hash: u64, entry: Entry<V>) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        let seed = self.seed;
        self.young.insert_unique(hash, entry, |entry| self::hash(seed, entry.scope, &entry.key));
    }
}

fn hash(seed: u64, scope: u32, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, seed ^ u64::from(scope))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scopes_do_not_see_each_other() {
        let mut cache = Cache::new(4, 1);
        cache.insert(1, b"k", "one");
        assert_eq!(cache.get(1, b"k"), Some("one"));
        assert_eq!(cache.get(2, b"k"), None);
    }

    #[test]
    fn entries_in_use_outlive_a_flood() {
        let mut cache = Cache::new(8, 1);
        cache.insert(0, b"kept", 0);
        for i in 0..1000_u32 {
            cache.insert(0, &i.to_le_bytes(), 1);
            assert_eq!(cache.get(0, b"kept"), Some(0));
        }
    }

    #[test]
    fn capacity_zero_remembers_nothing() {
        let mut cache = Cache::new(0, 1);
        cache.insert(0, b"k", 1);
        assert!(cache.is_empty());
    }

    proptest! {
        #[test]
        fn never_grows_past_its_bound_nor_mixes_up_keys(
            keys in proptest::collection::vec((0..3_u32, proptest::collection::vec(any::<u8>(), 0..3)), 0..200),
        ) {
            let mut cache = Cache::new(5, 7);
            for (scope, key) in &keys {
                cache.insert(*scope, key, (*scope, key.clone()));
                prop_assert!(cache.len() <= 10);
                prop_assert_eq!(cache.get(*scope, key), Some((*scope, key.clone())));
            }
            for (scope, key) in &keys {
                if let Some(value) = cache.get(*scope, key) {
                    prop_assert_eq!(value, (*scope, key.clone()));
                }
            }
        }
    }
}
