//! What all workers share: Envoy has shared data for Wasm only, so this is as much of it as the filters use.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Mutex, PoisonError};

use tollgate_filter_abi::{Result, Status};

/// So many that workers rarely meet.
const SHARDS: usize = 64;

type Shard = Mutex<HashMap<Vec<u8>, (Vec<u8>, u32)>>;

static DATA: LazyLock<(RandomState, Vec<Shard>)> =
    LazyLock::new(|| (RandomState::default(), (0..SHARDS).map(|_| Shard::default()).collect()));

/// A value, and its version for [`set`].
pub fn get(key: &[u8]) -> Result<(Vec<u8>, u32)> {
    with(key, |shard| shard.get(key).cloned().ok_or(Status::NotFound))
}

/// Sets a value, if its version is still `version`; 0 for whatever it is.
pub fn set(key: &[u8], value: &[u8], version: u32) -> Result {
    with(key, |shard| {
        let Some((held, current)) = shard.get_mut(key) else {
            shard.insert(key.to_vec(), (value.to_vec(), 1));
            return Ok(());
        };
        if version != 0 && version != *current {
            return Err(Status::CasMismatch);
        }
        value.clone_into(held);
        *current = current.wrapping_add(1).max(1);
        Ok(())
    })
}

fn with<T>(key: &[u8], run: impl FnOnce(&mut HashMap<Vec<u8>, (Vec<u8>, u32)>) -> Result<T>) -> Result<T> {
    let (hasher, shards) = &*DATA;
    let shard = shards.get(hasher.hash_one(key) as usize % SHARDS).ok_or(Status::NotFound)?;
    // Nothing in here panics half-way.
    run(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn whoever_read_an_older_version_does_not_write() {
        assert_eq!(get(b"none"), Err(Status::NotFound));
        set(b"key", b"a", 0).unwrap();
        let (value, version) = get(b"key").unwrap();
        assert_eq!(value, b"a");
        set(b"key", b"b", version).unwrap();
        assert_eq!(set(b"key", b"c", version), Err(Status::CasMismatch));
        set(b"key", b"d", 0).unwrap();
        assert_eq!(get(b"key").unwrap().0, b"d");
    }

    #[test]
    fn no_worker_loses_what_another_added() {
        set(b"sum", &0_u64.to_le_bytes(), 0).unwrap();
        let add = || {
            let (value, version) = get(b"sum").unwrap();
            let sum = u64::from_le_bytes(value.try_into().unwrap()) + 1;
            set(b"sum", &sum.to_le_bytes(), version)
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| while add().is_err() {}));
            }
        });
        assert_eq!(get(b"sum").unwrap().0, 8_000_u64.to_le_bytes());
    }
}
