//! Skeleton.

pub mod discovery;
pub mod snapshot;
