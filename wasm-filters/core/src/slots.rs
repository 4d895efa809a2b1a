//! A fixed number of slots in memory that all workers of one Envoy share, each holding a few buckets.
//!
//! Envoy's shared data never forgets a key, so there is one key a slot, made once, and not one a client. A
//! slot holds up to [`WAYS`] entries of (fingerprint, TAT), like a set-associative cache. Making room costs
//! accuracy only when a slot is full of buckets that are not full yet: then the one that is nearest to full
//! is forgotten, and its key starts over with a full bucket. Reading and writing shared data is the
//! caller's.

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Slots; with [`WAYS`] each, 32768 buckets that are not full at the same time.
pub const SLOTS: usize = 4096;
/// Entries of a slot.
pub const WAYS: usize = 8;

/// First byte of every encoded slot. Another one is the slot of another version, and reads as empty.
const VERSION: u8 = 1;
const ENTRY_BYTES: usize = 16;

/// Where the bucket of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which slot, below [`SLOTS`].
    pub slot: usize,
    /// Which entry of the slot. 64 bits: among the entries of one slot, two keys collide once in 2^61.
    pub fingerprint: u64,
}

impl Place {
    /// The place of `key`. All workers must use one `seed`, which should not be guessable: who can choose
    /// keys could else fill one slot on purpose.
    pub fn of(key: &[u8], seed: u64) -> Self {
        let hash = xxh3_128_with_seed(key, seed);
        Self { slot: (hash >> 64) as usize % SLOTS, fingerprint: hash as u64 }
    }

    /// Name of the slot in shared data: made for each request, so without an allocation.
    pub fn slot_name(slot: usize) -> [u8; 29] {
        let mut name = *b"tollgate.rate_limit.slot.0000";
        for (digit, shift) in name.iter_mut().rev().zip([0, 4, 8, 12]) {
            *digit = b"0123456789abcdef".get(slot >> shift & 0xf).copied().unwrap_or(b'0');
        }
        name
    }
}

/// What making room for an entry cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// Nothing: the entry was there, or there was room, or a full bucket went.
    Nothing,
    /// A bucket that was not full: its key may now send a burst early.
    Bucket,
}

/// One slot, in the bytes that are shared: a version, then up to [`WAYS`] entries of fingerprint and TAT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot(Vec<u8>);

impl Default for Slot {
    fn default() -> Self {
        Self(vec![VERSION])
    }
}

impl Slot {
    /// Takes the bytes of a slot. Any bytes are a slot: what is cut short or of another version is empty, since
    /// losing counts is better than losing requests.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        match bytes.split_first() {
            Some((&VERSION, entries)) => {
                let entries = entries.len() / ENTRY_BYTES;
                bytes.truncate(1 + entries.min(WAYS) * ENTRY_BYTES);
                Self(bytes)
            }
            _ => Self::default(),
        }
    }

    /// The bytes to share. Never empty, so that a stored slot differs from none.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The TAT of `fingerprint`; 0, a full bucket, where it is not here.
    pub fn tat(&self, fingerprint: u64) -> u64 {
        self.entries().find(|entry| entry.0 == fingerprint).map_or(0, |entry| entry.1)
    }

    /// Stores the TAT of `fingerprint`, making room where there is none.
    pub fn put(&mut self, fingerprint: u64, tat: u64, now: u64) -> Evicted {
        let found = self.entries().position(|entry| entry.0 == fingerprint);
        let count = self.entries().count();
        // The earliest TAT: if any bucket is full again (TAT in the past), it is that one.
        let (index, evicted) = match (found, self.entries().enumerate().min_by_key(|(_, entry)| entry.1)) {
            (Some(index), _) => (index, Evicted::Nothing),
            (None, Some((oldest, (_, tat)))) if count >= WAYS => {
                (oldest, if tat <= now { Evicted::Nothing } else { Evicted::Bucket })
            }
            (None, _) => (count, Evicted::Nothing),
        };
        let at = 1 + index * ENTRY_BYTES;
        if self.0.len() < at + ENTRY_BYTES {
            self.0.resize(at + ENTRY_BYTES, 0);
        }
        if let Some(entry) = self.0.get_mut(at..at + ENTRY_BYTES) {
            let (key, value) = entry.split_at_mut(ENTRY_BYTES / 2);
            key.copy_from_slice(&fingerprint.to_le_bytes());
            value.copy_from_slice(&tat.to_le_bytes());
        }
        evicted
    }

    /// (fingerprint, TAT), at most [`WAYS`].
    fn entries(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let entries = self.0.get(1..).unwrap_or_default().chunks_exact(ENTRY_BYTES);
        entries
            .map(|entry| entry.split_at(ENTRY_BYTES / 2))
            .map(move |(fingerprint, tat)| (number(fingerprint), number(tat)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn full_buckets_go_first_and_cost_nothing() {
        let mut slot = Slot::default();
        for way in 0..WAYS as u64 {
            assert_eq!(slot.put(way, 100 + way, 50), Evicted::Nothing);
        }
        assert_eq!(slot.put(77, 200, 100), Evicted::Nothing, "entry 0 was full at 100");
        assert_eq!(slot.tat(0), 0);
        assert_eq!(slot.tat(77), 200);
        assert_eq!(slot.put(78, 200, 100), Evicted::Bucket, "entry 1 is full at 101 only");
        assert_eq!(slot.tat(1), 0);
        assert_eq!(slot.put(78, 201, 100), Evicted::Nothing, "an entry replaces itself");
    }

    #[test]
    fn other_versions_read_as_empty() {
        assert_eq!(Slot::new(Vec::new()), Slot::default());
        assert_eq!(Slot::new(vec![9; 129]), Slot::default());
        assert!(!Slot::default().as_bytes().is_empty());
    }

    #[test]
    fn every_slot_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = (0..SLOTS).map(Place::slot_name).collect();
        assert_eq!(names.len(), SLOTS);
        assert_eq!(&Place::slot_name(0xabc), b"tollgate.rate_limit.slot.0abc");
    }

    #[test]
    fn seeds_move_keys() {
        let moved = (0..100_u32)
            .filter(|i| Place::of(&i.to_le_bytes(), 1).slot != Place::of(&i.to_le_bytes(), 2).slot)
            .count();
        assert!(moved > 90, "{moved}");
    }

    #[test]
    fn keys_spread_over_the_slots() {
        let mut used = vec![0_u32; SLOTS];
        for i in 0..SLOTS as u32 * 4 {
            used[Place::of(&i.to_le_bytes(), 42).slot] += 1;
        }
        assert!(used.iter().max().unwrap() < &20, "{:?}", used.iter().max());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_slot(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in 0..20_usize) {
            for bytes in [bytes.clone(), [vec![VERSION], bytes, vec![0; tail]].concat()] {
                let slot = Slot::new(bytes);
                prop_assert!(slot.entries().count() <= WAYS);
                prop_assert_eq!(Slot::new(slot.as_bytes().to_vec()), slot);
            }
        }

        #[test]
        fn last_tat_is_read_back(puts in proptest::collection::vec((0..20_u64, any::<u64>()), 1..100)) {
            let mut slot = Slot::default();
            for (fingerprint, tat) in puts {
                slot.put(fingerprint, tat, 0);
                slot = Slot::new(slot.as_bytes().to_vec());
                prop_assert_eq!(slot.tat(fingerprint), tat);
                prop_assert!(slot.as_bytes().len() <= 1 + WAYS * ENTRY_BYTES);
            }
        }
    }
}
