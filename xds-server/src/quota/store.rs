//! Where the shared buckets are kept: in memory, or in Redis. What is asked of either is a batch of operations, done in
//! order and each in one step; what the protocol makes of them is `service`'s.

use tollgate_filter_core::quota::{Limit, Micros};

mod memory;
mod redis;
#[cfg(test)]
mod tests;

pub use memory::Memory;
pub use redis::{Redis, RedisSettings, Topology};

/// Operations of one batch at most.
pub const MAX_BATCH: usize = 1_000;

/// A bucket's identity: part of the SHA-256 of what the request says of it, so that every store has short keys of one
/// length, and none that tell who somebody is.
pub type BucketId = [u8; 16];

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tokens are taken: all of them or none.
    Whole,
    /// Tokens are taken: as many as there are.
    UpTo,
    /// Tokens that were not used are put back. The number is this credit's own: what a connection's trouble has sent
    /// twice is done once.
    Credit(u64),
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// On which bucket.
    pub bucket: BucketId,
    /// What is done.
    pub kind: Kind,
    /// With how many tokens, at most `MAX_TOKENS`.
    pub tokens: u64,
    /// The bucket's rate and size. One that changed counts from now on.
    pub limit: Limit,
}

/// What came of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Tokens taken.
    pub taken: u64,
    /// The bucket's state afterwards.
    pub state: Micros,
    /// The store's time, in microseconds since the epoch.
    pub now: u64,
}

/// Why nothing is known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached, or answered in time.
    #[error("{0}")]
    Unavailable(String),
    /// There is no room for another bucket.
    #[error("{0} buckets are in use, and there is no room for more")]
    Full(usize),
}

/// Where buckets are kept.
#[derive(Debug)]
pub enum Store {
    /// In this process: one xds-server, forgotten with it.
    Memory(Memory),
    /// In Redis: any number of xds-servers.
    Redis(Box<Redis>),
}

impl Store {
    /// Does a batch of at most [`MAX_BATCH`].
    ///
    /// # Errors
    /// When it can't be known what was done; then some of it may have been.
    pub async fn apply(&self, batch: &[Operation]) -> Result<Vec<Outcome>, StoreError> {
        match self {
            Self::Memory(memory) => memory.apply(batch, now()),
            Self::Redis(redis) => redis.apply(batch, None).await,
        }
    }

    /// For people: which it is.
    pub fn describe(&self) -> String {
        match self {
            Self::Memory(_) => "memory".into(),
            Self::Redis(redis) => redis.describe(),
        }
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
