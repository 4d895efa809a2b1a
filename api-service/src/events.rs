//! What happened, for whoever wants to know: published after the fact, never waited for by a caller.
//!
//! Publishing cannot fail for the use case: a sink that cannot deliver logs that itself. The sinks here are
//! the log and memory; a message broker comes later behind the same trait.

mod log;
mod memory;

use async_trait::async_trait;

use crate::id::{AccountId, ApiId, KeyId, SessionId};

pub use log::LogEvents;
pub use memory::MemoryEvents;

/// One thing that happened. Holds ids only: no secret, no personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Someone registered.
    AccountRegistered(AccountId),
    /// Someone logged in.
    SessionStarted(AccountId, SessionId),
    /// A session was ended by its owner.
    SessionRevoked(AccountId, SessionId),
    /// A refresh token came a second time; the session was revoked for it.
    RefreshTokenReused(AccountId, SessionId),
    /// An API key was made.
    KeyCreated(AccountId, KeyId),
    /// An API key was revoked.
    KeyRevoked(AccountId, KeyId),
    /// An API was published.
    ApiPublished(AccountId, ApiId),
    /// An API was taken out of the catalogue.
    ApiRemoved(AccountId, ApiId),
}

impl Event {
    /// Its name, as a broker's routing key.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AccountRegistered(..) => "account.registered",
            Self::SessionStarted(..) => "session.started",
            Self::SessionRevoked(..) => "session.revoked",
            Self::RefreshTokenReused(..) => "session.refresh_token_reused",
            Self::KeyCreated(..) => "key.created",
            Self::KeyRevoked(..) => "key.revoked",
            Self::ApiPublished(..) => "api.published",
            Self::ApiRemoved(..) => "api.removed",
        }
    }

    /// Whose doing it was.
    pub fn account(&self) -> AccountId {
        match self {
            Self::AccountRegistered(account)
            | Self::SessionStarted(account, _)
            | Self::SessionRevoked(account, _)
            | Self::RefreshTokenReused(account, _)
            | Self::KeyCreated(account, _)
            | Self::KeyRevoked(account, _)
            | Self::ApiPublished(account, _)
            | Self::ApiRemoved(account, _) => *account,
        }
    }

    /// Id of the thing it happened to.
    pub fn subject(&self) -> String {
        match self {
            Self::AccountRegistered(account) => account.to_string(),
            Self::SessionStarted(_, session)
            | Self::SessionRevoked(_, session)
            | Self::RefreshTokenReused(_, session) => session.to_string(),
            Self::KeyCreated(_, key) | Self::KeyRevoked(_, key) => key.to_string(),
            Self::ApiPublished(_, api) | Self::ApiRemoved(_, api) => api.to_string(),
        }
    }
}

/// Where events go.
#[async_trait]
pub trait Events: Send + Sync {
    /// Hands over one event. Returns soon: a slow sink queues, within bounds.
    async fn publish(&self, event: Event);
    /// Delivers what is queued; called once, when the service stops.
    async fn flush(&self);
}
