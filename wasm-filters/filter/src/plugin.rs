//! What one plugin configuration makes in one VM.
//!
//! Requests hold it on their own, so that one which is under way keeps the configuration it began with.

use tollgate_filter_abi as abi;
use tollgate_filter_core::ConfigError;
use tollgate_filter_core::parts::Parts;

use crate::kind::Kind;
use crate::shared;

/// A configuration, ready to decide.
pub struct Plugin {
    /// Decides.
    pub parts: Parts,
    /// Its context.
    pub root: u32,
    /// Seed of the hash of a limit's keys, the same in all workers.
    pub seed: u64,
}

impl Plugin {
    /// Reads the plugin configuration, `size` bytes of JSON, and prepares what workers share.
    pub fn load<K: Kind>(root: u32, size: usize) -> Result<Self, ConfigError> {
        // Hash seeds are constant on this target; the nanosecond of the configuration is not.
        let seed = abi::current_time_nanos();
        let parts = K::load(&abi::configuration(size).unwrap_or_default(), seed)?;
        // Buckets stay as they are, so that a new configuration goes on counting where the old one was.
        let seed = if parts.limiter.is_some() { shared::prepare(seed) } else { seed };
        Ok(Self { parts, root, seed })
    }
}
