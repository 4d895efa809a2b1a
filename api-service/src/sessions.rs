//! Sessions: what a log-in gives, how it is kept alive, and how it ends.
//!
//! A session is an access token that is checked without us ([`access_token`]) and a refresh token that only
//! we check. Refresh tokens rotate: each works once, and one that comes a second time ends the session,
//! because either the client or a thief has a copy and nobody can tell which (RFC 9700 section 4.14.2).
//! Access tokens name their session (`sid`), so that gateways refuse those of one that has ended
//! ([`revocations`](crate::revocations)).

pub mod access_token;
pub mod signing;

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::accounts::AccountService;
use crate::clock::Clock;
use crate::error::Error;
use crate::events::{Event, Events};
use crate::id::{AccountId, SessionId};
use crate::secret::Secret;
use crate::store::{self, Rotation, StoredRefreshToken};

use access_token::AccessTokens;

/// What every refresh token starts with.
const REFRESH_PREFIX: &str = "tr_";

/// What a client gets for a log-in or a refresh.
#[derive(Debug)]
pub struct Tokens {
    /// Goes with each call.
    pub access: Secret,
    /// How long the access token works.
    pub access_ttl: Duration,
    /// Buys the next pair.
    pub refresh: Secret,
}

/// The use cases around sessions.
pub struct SessionService {
    accounts: Arc<AccountService>,
    store: Arc<dyn store::Sessions>,
    access_tokens: Arc<AccessTokens>,
    refresh_ttl: Duration,
    events: Arc<dyn Events>,
    clock: Clock,
}

impl SessionService {
    /// Puts the parts together. A refresh token not used for `refresh_ttl` expires.
    pub fn new(
        accounts: Arc<AccountService>,
        store: Arc<dyn store::Sessions>,
        access_tokens: Arc<AccessTokens>,
        refresh_ttl: Duration,
        events: Arc<dyn Events>,
        clock: Clock,
    ) -> Self {
        Self { accounts, store, access_tokens, refresh_ttl, events, clock }
    }

    /// Starts a session for whoever has this e-mail and password.
    ///
    /// # Errors
    /// [`Error::WrongCredentials`].
    pub async fn log_in(&self, email: &str, password: Secret) -> Result<Tokens, Error> {
        let account = self.accounts.authenticate(email, password).await?;
        let (session, now) = (SessionId::new(), self.clock.now());
        let (refresh, stored) = self.new_refresh_token(now)?;
        self.store.start(session, account, &stored, now).await?;
        self.events.publish(Event::SessionStarted(account, session)).await;
        self.tokens(account, session, refresh, now)
    }

    /// Exchanges a refresh token for a new pair.
    ///
    /// # Errors
    /// [`Error::InvalidToken`]; a token used before ends its session as well.
    pub async fn refresh(&self, presented: &Secret) -> Result<Tokens, Error> {
        let now = self.clock.now();
        let (refresh, next) = self.new_refresh_token(now)?;
        match self.store.rotate(&presented.sha256(), &next, now).await? {
            Rotation::Rotated(account, session) => self.tokens(account, session, refresh, now),
            Rotation::Reused(account, session) => {
                self.events.publish(Event::RefreshTokenReused(account, session)).await;
                Err(Error::InvalidToken)
            }
            Rotation::Refused => Err(Error::InvalidToken),
        }
    }

    /// Ends the session of a refresh token. An unknown token is no error: it cannot be used either (RFC 7009
    /// section 2.2).
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn end(&self, refresh: &Secret) -> Result<(), Error> {
        if let Some((account, session)) = self.store.end(&refresh.sha256(), self.clock.now()).await? {
            self.events.publish(Event::SessionRevoked(account, session)).await;
        }
        Ok(())
    }

    fn new_refresh_token(&self, now: OffsetDateTime) -> Result<(Secret, StoredRefreshToken), Error> {
        let token = Secret::generate(REFRESH_PREFIX).map_err(|error| Error::internal(error.to_string()))?;
        let stored = StoredRefreshToken { digest: token.sha256(), expires_at: now + self.refresh_ttl };
        Ok((token, stored))
    }

    fn tokens(
        &self,
        account: AccountId,
        session: SessionId,
        refresh: Secret,
        now: OffsetDateTime,
    ) -> Result<Tokens, Error> {
        let access = self.access_tokens.issue(account, session, now)?;
        Ok(Tokens { access, access_ttl: self.access_tokens.ttl(), refresh })
    }
}
