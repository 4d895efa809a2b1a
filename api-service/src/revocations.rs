//! What was revoked and may still be believed: the list by which gateways refuse it at once.
//!
//! Gateways check access tokens by themselves and remember keys, so revoking reaches them as a list that they poll. It
//! is made of what the store has anyway, so it outlives a restart. An entry stays for as long as a gateway could
//! accept what it names, and then says nothing that the gateway does not know.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::Clock;
use crate::error::Error;
use crate::id::{KeyId, SessionId};
use crate::store;

/// How far a gateway's clock may be off, or its leeway go, in favour of a token that ran out.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Something revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation<I> {
    /// What: a key, or the session that a token's `sid` names.
    pub id: I,
    /// Until when a gateway may need to know.
    pub until: OffsetDateTime,
}

/// All that gateways are to refuse, each list by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// Keys.
    pub keys: Vec<Revocation<KeyId>>,
    /// Sessions, whose access tokens are to be refused.
    pub sessions: Vec<Revocation<SessionId>>,
}

/// The use case around revocations.
pub struct RevocationService {
    store: Arc<dyn store::Revocations>,
    keys_stay: Duration,
    sessions_stay: Duration,
    clock: Clock,
}

impl RevocationService {
    /// Keys are listed for `key_retention`, sessions for as long as a token that lives for `access_ttl` could work.
    pub fn new(
        store: Arc<dyn store::Revocations>,
        key_retention: Duration,
        access_ttl: Duration,
        clock: Clock,
    ) -> Self {
        Self { store, keys_stay: key_retention + CLOCK_SKEW, sessions_stay: access_ttl + CLOCK_SKEW, clock }
    }

    /// Names what gateways are to refuse now, without reading it. To be asked before [`current`](Self::current): if
    /// something is revoked in between, the name is then that of less, and whoever has it is told again.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn version(&self) -> Result<String, Error> {
        let (keys, sessions) = self.since();
        let version = self.store.version(keys, sessions).await?;
        Ok(format!("{version} {} {}", self.keys_stay.as_nanos(), self.sessions_stay.as_nanos()))
    }

    /// What gateways are to refuse now.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn current(&self) -> Result<Revocations, Error> {
        let (keys, sessions) = self.since();
        let keys = self.store.revoked_keys(keys).await?;
        let sessions = self.store.revoked_sessions(sessions).await?;
        Ok(Revocations { keys: list(keys, self.keys_stay), sessions: list(sessions, self.sessions_stay) })
    }

    /// When what is listed was revoked: keys and sessions after these times.
    fn since(&self) -> (OffsetDateTime, OffsetDateTime) {
        let now = self.clock.now();
        (now - self.keys_stay, now - self.sessions_stay)
    }
}

fn list<I: Copy + Ord>(mut revoked: Vec<(I, OffsetDateTime)>, stay: Duration) -> Vec<Revocation<I>> {
    revoked.sort_unstable();
    revoked.into_iter().map(|(id, at)| Revocation { id, until: at + stay }).collect()
}
