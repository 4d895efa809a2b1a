//! JSON Web Key Sets fetched from URLs that the YAML names (`jwks: {url: …}`).
//!
//! One task a URL. It fetches again after the refresh time, sooner while there is no key set yet; what was
//! fetched last stays while the issuer is down, also over a restart ([`KeyStore`]). Envoys never fetch: they get keys with their configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::jwks::{all_jwks, parse};
use super::key_store::KeyStore;
use crate::fetch;
use crate::gateway::Gateway;

/// Key sets by URL. One that was never fetched is missing.
pub type KeyUrls = BTreeMap<String, Arc<Value>>;

/// Time for one fetch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a key set at most.
const MAX_BYTES: usize = 1024 * 1024;
/// First pause after a failed fetch; it doubles up to the longest, or to the refresh time where that is shorter.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Fetches what the current gateway names.
pub struct KeyFetcher {
    client: reqwest::Client,
    store: KeyStore,
    tasks: BTreeMap<String, Task>,
    sender: Arc<watch::Sender<KeyUrls>>,
}

struct Task {
    refresh: Duration,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl KeyFetcher {
    /// Fetches nothing yet; keeps what it fetches in `store`.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new(store: KeyStore) -> Result<Self, reqwest::Error> {
        // One provider for the whole process; a second call finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .user_agent(concat!("tollgate-xds-server/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            client,
            store,
            tasks: BTreeMap::new(),
            sender: Arc::new(watch::Sender::new(KeyUrls::new())),
        })
    }

    /// Key sets as they come.
    pub fn subscribe(&self) -> watch::Receiver<KeyUrls> {
        self.sender.subscribe()
    }

    /// Fetches exactly what `gateway` names from now on. Must be called within a runtime.
    pub fn follow(&mut self, gateway: &Gateway) {
        let wanted = urls(gateway);
        self.tasks.retain(|url, task| wanted.get(url) == Some(&task.refresh));
        self.sender.send_if_modified(|sets| {
            let before = sets.len();
            sets.retain(|url, _| wanted.contains_key(url));
            sets.len() != before
        });
        for (url, refresh) in wanted {
            self.tasks.entry(url).or_insert_with_key(|url| {
                let issuer = Issuer {
                    client: self.client.clone(),
                    url: url.clone(),
                    refresh,
                    kept: self.store.clone(),
                    sender: Arc::clone(&self.sender),
                };
                Task { refresh, handle: tokio::spawn(issuer.keep_fetching()) }
            });
        }
    }
}

/// The URLs that a gateway names, with their refresh times.
pub fn urls(gateway: &Gateway) -> BTreeMap<String, Duration> {
    let mut urls = BTreeMap::new();
    for (_, jwks) in all_jwks(gateway) {
        if let Some(url) = &jwks.url {
            let refresh = jwks.refresh.get();
            // Named twice: the shorter time serves both.
            urls.entry(url.clone())
                .and_modify(|time: &mut Duration| *time = refresh.min(*time))
                .or_insert(refresh);
        }
    }
    urls
}

/// One URL that is fetched again and again.
struct Issuer {
    client: reqwest::Client,
    url: String,
    refresh: Duration,
    kept: KeyStore,
    sender: Arc<watch::Sender<KeyUrls>>,
}

impl Issuer {
    async fn keep_fetching(self) {
        let Self { client, url, refresh, kept, sender } = &self;
        let mut retry = FIRST_RETRY;
        let mut down = false;
        if !sender.borrow().contains_key(url)
            && let Some(set) = kept.get(url)
        {
            tracing::info!(url, "issuer's keys are those of an earlier run until they are fetched");
            sender.send_modify(|sets| drop(sets.insert(url.clone(), Arc::new(set))));
        }
        loop {
            match key_set(client, url).await {
                Ok(set) => {
                    let is_known = sender.borrow().get(url).is_some_and(|known| **known == set);
                    if !is_known {
                        kept.put(url, &set);
                        sender.send_modify(|sets| drop(sets.insert(url.clone(), Arc::new(set))));
                    }
                    if !is_known || down {
                        tracing::info!(url, changed = !is_known, "issuer's keys fetched");
                    }
                    (retry, down) = (FIRST_RETRY, false);
                    tokio::time::sleep(*refresh).await;
                }
                Err(error) => {
                    // Said once, not with every try.
                    if !down {
                        tracing::warn!(
                            url,
                            error,
                            "can't fetch an issuer's keys; keeping the last ones and trying again"
                        );
                    }
                    down = true;
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(*refresh).min(LONGEST_RETRY);
                }
            }
        }
    }
}

async fn key_set(client: &reqwest::Client, url: &str) -> Result<Value, String> {
    let request = client.get(url).header("accept", "application/json");
    parse(&fetch::text(request, MAX_BYTES).await?)
}

#[cfg(test)]
mod tests;
