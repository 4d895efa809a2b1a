//! The catalogue: APIs that publishers offer and consumers look up.
//!
//! It describes; routing to what it describes is the gateway's YAML.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::error::Error;
use crate::events::{Event, Events};
use crate::id::{AccountId, ApiId};
use crate::page::{Page, PageRequest};
use crate::store::Removal;
use crate::{store, text};

/// APIs an account publishes at most.
pub const MOST_APIS: u32 = 1000;

/// A published API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Its id.
    pub id: ApiId,
    /// Who published it.
    pub owner: AccountId,
    /// Unique name for machines: a slug.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// What it does; may be empty.
    pub description: String,
    /// Path it is served under.
    pub base_path: String,
    /// When it was published.
    #[serde(with = "time::serde::timestamp")]
    pub published_at: OffsetDateTime,
}

/// What a publisher says about an API, not yet checked.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// See [`Api::name`].
    pub name: &'a str,
    /// See [`Api::title`].
    pub title: &'a str,
    /// See [`Api::description`].
    pub description: &'a str,
    /// See [`Api::base_path`].
    pub base_path: &'a str,
}

/// The use cases around the catalogue.
pub struct CatalogueService {
    store: Arc<dyn store::Catalogue>,
    cache: Arc<dyn Cache>,
    cache_ttl: Duration,
    events: Arc<dyn Events>,
    clock: Clock,
}

impl CatalogueService {
    /// Puts the parts together. Single APIs are remembered for `cache_ttl`.
    pub fn new(
        store: Arc<dyn store::Catalogue>,
        cache: Arc<dyn Cache>,
        cache_ttl: Duration,
        events: Arc<dyn Events>,
        clock: Clock,
    ) -> Self {
        Self { store, cache, cache_ttl, events, clock }
    }

    /// Publishes an API; the caller owns it.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Taken`] for the name, [`Error::NoAccount`], [`Error::TooMany`].
    pub async fn publish(&self, owner: AccountId, publication: Publication<'_>) -> Result<Api, Error> {
        let api = Api {
            id: ApiId::new(),
            owner,
            name: text::slug("name", publication.name)?,
            title: text::line("title", publication.title, 100)?,
            description: text::paragraphs("description", publication.description, 2000)?,
            base_path: base_path(publication.base_path)?,
            published_at: self.clock.now(),
        };
        self.store.insert(&api, MOST_APIS).await?;
        self.events.publish(Event::ApiPublished(owner, api.id)).await;
        Ok(api)
    }

    /// One API.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn api(&self, id: ApiId) -> Result<Api, Error> {
        let known = self.cache.get(&cache_key(id)).await;
        if let Some(known) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            let known: Option<Api> = known;
            return known.ok_or(Error::NotFound("api"));
        }
        let api = self.store.by_id(id).await?.ok_or(Error::NotFound("api"))?;
        if let Ok(bytes) = serde_json::to_vec(&api) {
            self.cache.put_if_absent(&cache_key(id), bytes.into(), self.cache_ttl).await;
        }
        Ok(api)
    }

    /// All APIs, oldest first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self, page: &PageRequest<ApiId>) -> Result<Page<Api, ApiId>, Error> {
        Ok(Page::cut(self.store.list(page).await?, page.limit, |api| api.id))
    }

    /// Takes an API out of the catalogue.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotOwner`].
    pub async fn remove(&self, owner: AccountId, id: ApiId) -> Result<(), Error> {
        match self.store.remove(owner, id).await? {
            Removal::Removed => {}
            Removal::NotOwner => return Err(Error::NotOwner),
            Removal::Unknown => return Err(Error::NotFound("api")),
        }
        // A tombstone: see the cache's documentation.
        self.cache.put(&cache_key(id), Bytes::from_static(b"null"), self.cache_ttl).await;
        self.events.publish(Event::ApiRemoved(owner, id)).await;
        Ok(())
    }
}

fn cache_key(id: ApiId) -> String {
    format!("api:{id}")
}

/// A path prefix: starts with `/`, of unreserved characters (RFC 3986 section 2.3), without empty or dot
/// segments, so that no two spellings name the same place.
fn base_path(text: &str) -> Result<String, Error> {
    let is_segment = |segment: &str| {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(unreserved)
    };
    let rest = text.strip_prefix('/').filter(|_| text.len() <= 200);
    let valid = rest.is_some_and(|rest| rest.is_empty() || rest.split('/').all(is_segment));
    if !valid {
        return Err(Error::invalid("base_path", "must be a path like /petstore/v1"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_paths_have_one_spelling() {
        for good in ["/", "/a", "/petstore/v1", "/a.b/~c"] {
            assert!(base_path(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "//", "/a/", "/a//b", "/./a", "/a/..", "/a?b", "/a%2fb", "/å"] {
            assert!(base_path(bad).is_err(), "{bad}");
        }
    }
}
