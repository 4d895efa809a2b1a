//! API keys: long-lived secrets that a consumer's programs call with.
//!
//! A key is shown once and kept as a digest. The gateway asks [`KeyService::introspect`] about digests, so
//! keys themselves never travel behind it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::error::Error;
use crate::events::{Event, Events};
use crate::id::{AccountId, KeyId};
use crate::page::{Page, PageRequest};
use crate::secret::{Secret, Sha256Hex};
use crate::{store, text};

/// What every key starts with, so that leaked ones are found by scanners.
pub const KEY_PREFIX: &str = "tg_";
/// Active keys an account has at most.
pub const MOST_KEYS: u32 = 100;

/// A key without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Public id.
    pub id: KeyId,
    /// Whose it is.
    pub owner: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// What the gateway learns about a key that works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveKey {
    /// Whose it is: the consumer.
    pub owner: AccountId,
    /// Its public id.
    pub id: KeyId,
}

/// The use cases around API keys.
pub struct KeyService {
    store: Arc<dyn store::ApiKeys>,
    cache: Arc<dyn Cache>,
    cache_ttl: Duration,
    events: Arc<dyn Events>,
    clock: Clock,
}

impl KeyService {
    /// Puts the parts together. Answers to introspection are remembered for `cache_ttl`.
    pub fn new(
        store: Arc<dyn store::ApiKeys>,
        cache: Arc<dyn Cache>,
        cache_ttl: Duration,
        events: Arc<dyn Events>,
        clock: Clock,
    ) -> Self {
        Self { store, cache, cache_ttl, events, clock }
    }

    /// Makes a key. The secret is returned here and never again.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the name, [`Error::NoAccount`], [`Error::TooMany`] at [`MOST_KEYS`].
    pub async fn create(&self, owner: AccountId, name: &str) -> Result<(ApiKey, Secret), Error> {
        let name = text::line("name", name, 100)?;
        let secret = Secret::generate(KEY_PREFIX).map_err(|error| Error::internal(error.to_string()))?;
        let key = ApiKey { id: KeyId::new(), owner, name, created_at: self.clock.now() };
        self.store.insert(&key, &secret.sha256(), MOST_KEYS).await?;
        self.events.publish(Event::KeyCreated(owner, key.id)).await;
        Ok((key, secret))
    }

    /// The owner's active keys.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(
        &self,
        owner: AccountId,
        page: &PageRequest<KeyId>,
    ) -> Result<Page<ApiKey, KeyId>, Error> {
        Ok(Page::cut(self.store.list(owner, page).await?, page.limit, |key| key.id))
    }

    /// Revokes a key of the owner's. Other processes may call it active until their cache forgets; gateways that poll
    /// [`revocations`](crate::revocations) refuse it all the same.
    ///
    /// # Errors
    /// [`Error::NotFound`], also for someone else's key: ids of others are not confirmed.
    pub async fn revoke(&self, owner: AccountId, id: KeyId) -> Result<(), Error> {
        let digest = self.store.revoke(owner, id, self.clock.now()).await?;
        let digest = digest.ok_or(Error::NotFound("key"))?;
        self.remember(&digest, None).await;
        self.events.publish(Event::KeyRevoked(owner, id)).await;
        Ok(())
    }

    /// Whose key has this digest, if it works. Unknown digests are not remembered, or whoever sends random
    /// keys would push the good ones out of the cache.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn introspect(&self, digest: &Sha256Hex) -> Result<Option<ActiveKey>, Error> {
        if let Some(bytes) = self.cache.get(&cache_key(digest)).await
            && let Ok(known) = serde_json::from_slice(&bytes)
        {
            return Ok(known);
        }
        let active = self.store.active(digest).await?;
        if active.is_some() {
            self.remember(digest, active.as_ref()).await;
        }
        Ok(active)
    }

    /// `None` is the tombstone that stops a concurrent reader from putting the old answer back.
    async fn remember(&self, digest: &Sha256Hex, key: Option<&ActiveKey>) {
        let Ok(bytes) = serde_json::to_vec(&key).map(Bytes::from) else { return };
        match key {
            Some(_) => self.cache.put_if_absent(&cache_key(digest), bytes, self.cache_ttl).await,
            None => self.cache.put(&cache_key(digest), bytes, self.cache_ttl).await,
        }
    }
}

fn cache_key(digest: &Sha256Hex) -> String {
    format!("key:{digest}")
}
