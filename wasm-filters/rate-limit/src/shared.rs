//! The slots in Envoy's shared data.
//!
//! Making a key is not protected by compare-and-swap (two workers that both find none would both write), so
//! all are made while configuring. Envoy configures a VM on its main thread before any worker has one, so
//! the first to come is alone.

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;
use tollgate_filter_core::rate_limit::{HostFailure, SharedSlots};
use tollgate_filter_core::slots::{Place, SLOTS, Slot};

const SEED: &str = "tollgate.rate_limit.seed";

/// Makes the slots that are not there yet, and returns the seed that all workers share: `fresh` where this
/// is the first.
pub fn prepare(fresh: u64) -> u64 {
    let empty = Slot::default().encode();
    for slot in 0..SLOTS {
        make(&Place::slot_name(slot), &empty);
    }
    make(SEED, &fresh.to_le_bytes());
    let seed = hostcalls::get_shared_data(SEED).ok().and_then(|(bytes, _)| bytes);
    seed.and_then(|bytes| bytes.try_into().ok()).map_or(fresh, u64::from_le_bytes)
}

fn make(key: &str, value: &[u8]) {
    if let Ok((None, _)) = hostcalls::get_shared_data(key) {
        let _ = hostcalls::set_shared_data(key, Some(value), None);
    }
}

/// The slots of this Envoy.
pub struct EnvoySlots;

impl SharedSlots for EnvoySlots {
    fn read(&self, slot: usize) -> Result<(Vec<u8>, Option<u32>), HostFailure> {
        let (bytes, version) =
            hostcalls::get_shared_data(&Place::slot_name(slot)).map_err(|_| HostFailure)?;
        Ok((bytes.unwrap_or_default(), version))
    }

    fn write(&self, slot: usize, bytes: &[u8], version: Option<u32>) -> Result<bool, HostFailure> {
        match hostcalls::set_shared_data(&Place::slot_name(slot), Some(bytes), version) {
            Ok(()) => Ok(true),
            Err(Status::CasMismatch) => Ok(false),
            Err(_) => Err(HostFailure),
        }
    }
}
