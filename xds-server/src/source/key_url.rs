//! JSON Web Key Sets fetched from URLs that the YAML names (`jwks: {url: …}`).
//!
//! One task a URL. It fetches again after the refresh time or, where the YAML has none, once what it has is no longer fresh
//! by the issuer's word (`Cache-Control`); sooner while the issuer is down. It asks for what is new only (`ETag`). What was
//! fetched last stays while the issuer is down, also over a restart ([`KeyStore`]). Envoys never fetch: they get keys with
//! their configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use reqwest::redirect::{Action, Attempt, Policy};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::jwks::{all_jwks, parse};
use super::key_store::KeyStore;
use crate::fetch::{self, Fetched};
use crate::gateway::Gateway;

/// Key sets by URL. One that was never fetched is missing.
pub type KeyUrls = BTreeMap<String, Arc<Value>>;

/// Time for one fetch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a key set at most.
const MAX_BYTES: usize = 1024 * 1024;
/// Time between two fetches where neither the YAML nor the issuer says one.
const REFRESH: Duration = Duration::from_secs(60);
/// An issuer's word on it counts within these bounds: it may neither have us ask all the time, nor keep a key that was
/// taken back in use for hours.
const FRESH: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(600);
/// Redirects followed.
const MAX_REDIRECTS: usize = 3;
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
    refresh: Option<Duration>,
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
            .redirect(Policy::custom(redirect))
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

/// The URLs that a gateway names, with the refresh times it gives.
pub fn urls(gateway: &Gateway) -> BTreeMap<String, Option<Duration>> {
    let mut urls = BTreeMap::new();
    for (_, jwks) in all_jwks(gateway) {
        if let Some(url) = &jwks.url {
            let refresh = jwks.refresh.map(|time| time.get());
            let time: &mut Option<Duration> = urls.entry(url.clone()).or_default();
            // Named twice: the shorter time serves both.
            *time = [*time, refresh].into_iter().flatten().min();
        }
    }
    urls
}

fn redirect(attempt: Attempt<'_>) -> Action {
    match why_not(attempt.previous(), attempt.url()) {
        None => attempt.follow(),
        Some(reason) => attempt.error(reason),
    }
}

/// Why a redirect is not followed. Keys that were asked for over TLS are not taken from elsewhere without.
fn why_not(previous: &[Url], next: &Url) -> Option<&'static str> {
    let is_safe = |url: &Url| url.scheme() == "https";
    if previous.iter().any(is_safe) && !is_safe(next) {
        return Some("redirected from https to http");
    }
    (previous.len() > MAX_REDIRECTS).then_some("redirected too often")
}

/// Time until the next fetch after one that succeeded.
fn pause(refresh: Option<Duration>, fresh_for: Option<Duration>) -> Duration {
    let by_the_issuer = |time: Duration| time.clamp(*FRESH.start(), *FRESH.end());
    refresh.unwrap_or_else(|| fresh_for.map_or(REFRESH, by_the_issuer))
}

/// Shorter by up to a tenth, so that replicas that started together don't ask together.
fn jittered(time: Duration) -> Duration {
    let share = getrandom::u32().map_or(0.0, |number| f64::from(number) / f64::from(u32::MAX));
    time.mul_f64(1.0 - share / 10.0)
}

/// One URL that is fetched again and again.
struct Issuer {
    client: reqwest::Client,
    url: String,
    refresh: Option<Duration>,
    kept: KeyStore,
    sender: Arc<watch::Sender<KeyUrls>>,
}

impl Issuer {
    async fn keep_fetching(self) {
        let Self { client, url, refresh, kept, sender } = &self;
        let mut retry = FIRST_RETRY;
        let mut down = false;
        let mut etag = None;
        if !sender.borrow().contains_key(url)
            && let Some(set) = kept.get(url)
        {
            tracing::info!(url, "issuer's keys are those of an earlier run until they are fetched");
            sender.send_modify(|sets| drop(sets.insert(url.clone(), Arc::new(set))));
        }
        loop {
            match key_set(client, url, etag.as_ref()).await {
                Ok(Keys { set, etag: of_set, fresh_for }) => {
                    let is_known =
                        |set: &Value| sender.borrow().get(url).is_some_and(|known| **known == *set);
                    let new = set.filter(|set| !is_known(set));
                    if new.is_some() || down {
                        tracing::info!(url, changed = new.is_some(), "issuer's keys fetched");
                    }
                    if let Some(set) = new {
                        kept.put(url, &set);
                        sender.send_modify(|sets| drop(sets.insert(url.clone(), Arc::new(set))));
                    }
                    (retry, down, etag) = (FIRST_RETRY, false, of_set);
                    tokio::time::sleep(jittered(pause(*refresh, fresh_for))).await;
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
                    tokio::time::sleep(jittered(retry)).await;
                    retry = (retry * 2).min(refresh.unwrap_or(REFRESH)).min(LONGEST_RETRY);
                }
            }
        }
    }
}

/// An issuer's answer.
struct Keys {
    /// `None` where it is still the set of the entity tag that was sent.
    set: Option<Value>,
    etag: Option<HeaderValue>,
    fresh_for: Option<Duration>,
}

async fn key_set(client: &reqwest::Client, url: &str, etag: Option<&HeaderValue>) -> Result<Keys, String> {
    let request = client.get(url).header("accept", "application/json");
    let Fetched { text, etag, fresh_for } = fetch::if_changed(request, etag, MAX_BYTES).await?;
    let set = text.as_deref().map(parse).transpose()?;
    Ok(Keys { set, etag, fresh_for })
}

#[cfg(test)]
mod tests;
