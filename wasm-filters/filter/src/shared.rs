//! The slots in Envoy's shared data.
//!
//! Making a key is not protected by compare-and-swap (two workers that both find none would both write), so
//! all are made while configuring. Envoy configures a VM on its main thread before any worker has one, so
//! the first to come is alone.

use tollgate_filter_abi::{Status, set_shared_data, shared_data};
use tollgate_filter_core::rate_limit::{HostFailure, SharedSlots};
use tollgate_filter_core::slots::{Place, SLOTS, Slot};

const SEED: &[u8] = b"tollgate.rate_limit.seed";

/// Makes the slots that are not there yet, and returns the seed that all workers share: `fresh` where this
/// is the first.
pub fn prepare(fresh: u64) -> u64 {
    let seed = shared_data(SEED).ok().and_then(|(bytes, _)| bytes.try_into().ok()).map(u64::from_le_bytes);
    if let Some(seed) = seed {
        // Written last, so the slots are there.
        return seed;
    }
    let empty = Slot::default();
    for slot in 0..SLOTS {
        make(&Place::slot_name(slot), empty.as_bytes());
    }
    make(SEED, &fresh.to_le_bytes());
    fresh
}

fn make(key: &[u8], value: &[u8]) {
    if let Err(Status::NotFound) = shared_data(key) {
        let _ = set_shared_data(key, value, 0);
    }
}

/// The slots of this Envoy.
pub struct EnvoySlots;

impl SharedSlots for EnvoySlots {
    fn read(&self, slot: usize) -> Result<(Vec<u8>, Option<u32>), HostFailure> {
        let (bytes, version) = shared_data(&Place::slot_name(slot)).map_err(|_| HostFailure)?;
        Ok((bytes, Some(version)))
    }

    fn write(&self, slot: usize, bytes: &[u8], version: Option<u32>) -> Result<bool, HostFailure> {
        match set_shared_data(&Place::slot_name(slot), bytes, version.unwrap_or(0)) {
            Ok(()) => Ok(true),
            Err(Status::CasMismatch) => Ok(false),
            Err(_) => Err(HostFailure),
        }
    }
}
