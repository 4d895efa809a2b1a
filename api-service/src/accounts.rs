//! Accounts: who may have one, and what proves that a caller is its owner.
//!
//! What a proof is good for afterwards (tokens) is in [`crate::sessions`].

mod email;
mod password;

use std::sync::Arc;

use time::OffsetDateTime;

use crate::clock::Clock;
use crate::error::Error;
use crate::events::{Event, Events};
use crate::id::AccountId;
use crate::secret::Secret;
use crate::{store, text};

pub use email::EmailAddress;
pub use password::{Password, PasswordHash, Passwords};

/// Someone who publishes or consumes APIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Never changes, unlike the address.
    pub id: AccountId,
    /// Where they are reached, and what they log in with.
    pub email: EmailAddress,
    /// What they like to be called.
    pub name: Option<String>,
    /// When they registered.
    pub registered_at: OffsetDateTime,
}

/// The use cases around accounts.
pub struct AccountService {
    store: Arc<dyn store::Accounts>,
    passwords: Arc<Passwords>,
    events: Arc<dyn Events>,
    clock: Clock,
}

impl AccountService {
    /// Puts the parts together.
    pub fn new(
        store: Arc<dyn store::Accounts>,
        passwords: Arc<Passwords>,
        events: Arc<dyn Events>,
        clock: Clock,
    ) -> Self {
        Self { store, passwords, events, clock }
    }

    /// Registers a new account.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what breaks a rule, [`Error::Taken`] for an address that has an account.
    pub async fn register(
        &self,
        email: &str,
        password: Secret,
        name: Option<&str>,
    ) -> Result<Account, Error> {
        let account = Account {
            id: AccountId::new(),
            email: email.parse()?,
            name: name.map(|name| text::line("name", name, 100)).transpose()?,
            registered_at: self.clock.now(),
        };
        let hash = self.passwords.hash(Password::new(password)?).await?;
        self.store.insert(&account, &hash).await?;
        self.events.publish(Event::AccountRegistered(account.id)).await;
        Ok(account)
    }

    /// The account of a caller.
    ///
    /// # Errors
    /// [`Error::NoAccount`] where they have none.
    pub async fn account(&self, id: AccountId) -> Result<Account, Error> {
        self.store.by_id(id).await?.ok_or(Error::NoAccount)
    }

    /// Whose e-mail and password these are. Takes one password hash of time whether or not the address is
    /// known, so that the time does not tell (OWASP ASVS 5.0, 6.3.8).
    ///
    /// # Errors
    /// [`Error::WrongCredentials`], also for what could never be an address or a password.
    pub async fn authenticate(&self, email: &str, password: Secret) -> Result<AccountId, Error> {
        let known = match email.parse() {
            Ok(email) => self.store.credentials(&email).await?,
            Err(_) => None,
        };
        let (account, hash) = known.unzip();
        let matches = self.passwords.verify(password, hash).await?;
        account.filter(|_| matches).ok_or(Error::WrongCredentials)
    }
}
