//! Which filter a module is: what its configuration is made of.

use tollgate_filter_core::ConfigError;
use tollgate_filter_core::parts::Parts;

/// A filter.
pub trait Kind {
    /// Its name in Envoy's log.
    const NAME: &'static str;
    /// Reads its configuration.
    fn load(json: &[u8], seed: u64) -> Result<Parts, ConfigError>;
}

/// Who may call.
#[derive(Debug, Default)]
pub struct Auth;

impl Kind for Auth {
    const NAME: &'static str = "auth";

    fn load(json: &[u8], seed: u64) -> Result<Parts, ConfigError> {
        Parts::auth(json, seed)
    }
}

/// How often.
#[derive(Debug, Default)]
pub struct RateLimit;

impl Kind for RateLimit {
    const NAME: &'static str = "rate limit";

    fn load(json: &[u8], seed: u64) -> Result<Parts, ConfigError> {
        Parts::rate_limit(json, seed)
    }
}

/// Who may call and how often.
#[derive(Debug, Default)]
pub struct Both;

impl Kind for Both {
    const NAME: &'static str = "gateway";

    fn load(json: &[u8], seed: u64) -> Result<Parts, ConfigError> {
        Parts::gateway(json, seed)
    }
}
