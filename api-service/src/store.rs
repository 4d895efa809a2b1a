//! What the domain needs kept, as traits cut by use: each may move to another database on its own.
//!
//! A trait says what must hold, in particular what must be atomic, and nothing of how. Implementations live
//! in the modules below; `tests/it/store_contract.rs` runs one body per trait over each of them.

pub mod sqlite;

use std::fmt;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::accounts::{Account, EmailAddress, PasswordHash};
use crate::api_keys::{ActiveKey, ApiKey};
use crate::catalogue::Api;
use crate::id::{AccountId, ApiId, KeyId, SessionId};
use crate::page::PageRequest;
use crate::secret::{Secret, Sha256Hex};

/// A cause whose type is nobody's business but the log's.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Values that no two rows share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unique {
    /// The e-mail address of an account.
    AccountEmail,
    /// The name of a published API.
    ApiName,
}

impl fmt::Display for Unique {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AccountEmail => "e-mail address",
            Self::ApiName => "name",
        })
    }
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A unique value is in use.
    #[error("the {0} is taken")]
    Taken(Unique),
    /// The account referred to does not exist.
    #[error("no such account")]
    NoAccount,
    /// The account has as many of these as it may.
    #[error("too many {0}")]
    Full(&'static str),
    /// The database failed, or holds what it should not.
    #[error(transparent)]
    Backend(BoxError),
}

impl Error {
    /// An [`Error::Backend`].
    pub fn backend(cause: impl Into<BoxError>) -> Self {
        Self::Backend(cause.into())
    }
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// Who has an account.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Adds one; [`Unique::AccountEmail`] decides between two at once.
    async fn insert(&self, account: &Account, password: &PasswordHash) -> Result<()>;
    /// The account with this id.
    async fn by_id(&self, id: AccountId) -> Result<Option<Account>>;
    /// What a log-in is checked against.
    async fn credentials(&self, email: &EmailAddress) -> Result<Option<(AccountId, PasswordHash)>>;
}

/// API keys, by digest.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Adds one, unless its owner has `most` active ones already, or revoked ten times as many in the hour before: each of
    /// those is told to every gateway. The counts and the insert are atomic.
    async fn insert(&self, key: &ApiKey, digest: &Sha256Hex, most: u32) -> Result<()>;
    /// The owner's active keys, by id; one more than the limit, so the caller sees whether there are more.
    async fn list(&self, owner: AccountId, page: &PageRequest<KeyId>) -> Result<Vec<ApiKey>>;
    /// Revokes the owner's key and returns its digest; `None` where there is no such active key of theirs.
    async fn revoke(&self, owner: AccountId, id: KeyId, at: OffsetDateTime) -> Result<Option<Sha256Hex>>;
    /// Whose key this is, unless it is unknown or revoked.
    async fn active(&self, digest: &Sha256Hex) -> Result<Option<ActiveKey>>;
}

/// What was revoked, of keys and sessions alike.
#[async_trait]
pub trait Revocations: Send + Sync {
    /// Names what the other two find after these times, at the cost of no list: another name where something was revoked, by
    /// whatever instance, or is no longer after its time. May stay the same where a session was deleted.
    async fn version(&self, keys_since: OffsetDateTime, sessions_since: OffsetDateTime) -> Result<String>;
    /// Keys that were revoked after `since`, and when, in any order.
    async fn revoked_keys(&self, since: OffsetDateTime) -> Result<Vec<(KeyId, OffsetDateTime)>>;
    /// Sessions that were revoked after `since`, and when, in any order.
    async fn revoked_sessions(&self, since: OffsetDateTime) -> Result<Vec<(SessionId, OffsetDateTime)>>;
}

/// What became of a request to remove something that has an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// It belongs to someone else, and stays.
    NotOwner,
    /// There was none.
    Unknown,
}

/// Published APIs.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// Adds one; [`Unique::ApiName`] decides between two at once.
    async fn insert(&self, api: &Api, most: u32) -> Result<()>;
    /// The API with this id.
    async fn by_id(&self, id: ApiId) -> Result<Option<Api>>;
    /// All, by id; one more than the limit, so the caller sees whether there are more.
    async fn list(&self, page: &PageRequest<ApiId>) -> Result<Vec<Api>>;
    /// Removes it if it is the owner's.
    async fn remove(&self, owner: AccountId, id: ApiId) -> Result<Removal>;
}

/// A refresh token as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRefreshToken {
    /// Digest of the token.
    pub digest: Sha256Hex,
    /// When it stops working.
    pub expires_at: OffsetDateTime,
}

/// What became of a refresh token that was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It was good; it is used up, and its successor is in its place.
    Rotated(AccountId, SessionId),
    /// It had been used before: someone has a copy. Its session is revoked now.
    Reused(AccountId, SessionId),
    /// Unknown, expired, or of a revoked session.
    Refused,
}

/// Sessions and their refresh tokens (RFC 9700 section 4.14.2).
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Starts a session with its first token, and forgets this account's sessions that have run out.
    async fn start(
        &self,
        session: SessionId,
        account: AccountId,
        first: &StoredRefreshToken,
        now: OffsetDateTime,
    ) -> Result<()>;
    /// Exchanges a token for `next`, atomically: of two requests with the same token, one gets
    /// [`Rotation::Reused`].
    async fn rotate(
        &self,
        presented: &Sha256Hex,
        next: &StoredRefreshToken,
        now: OffsetDateTime,
    ) -> Result<Rotation>;
    /// Revokes the session that the token belongs to, whatever state the token is in. Returns the session
    /// if that changed anything.
    async fn end(&self, token: &Sha256Hex, now: OffsetDateTime) -> Result<Option<(AccountId, SessionId)>>;
}

/// A private key as it is kept.
#[derive(Debug, Clone)]
pub struct StoredSigningKey {
    /// Key id (RFC 7638 thumbprint).
    pub kid: String,
    /// PKCS#8 in PEM.
    pub pem: Secret,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// Keys that sign access tokens.
#[async_trait]
pub trait SigningKeys: Send + Sync {
    /// Adds the key if there is none at all, atomically: of several processes that start at once on an empty
    /// store, one wins and all use its key.
    async fn insert_first(&self, key: &StoredSigningKey) -> Result<()>;
    /// All keys, newest first.
    async fn all(&self) -> Result<Vec<StoredSigningKey>>;
}

/// Whether a store answers.
#[async_trait]
pub trait Health: Send + Sync {
    /// Does the least that proves it.
    async fn check(&self) -> Result<()>;
}
