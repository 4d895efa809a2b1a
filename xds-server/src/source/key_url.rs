//! JSON Web Key Sets fetched from URLs that the YAML names (`jwks: {url: …}`).
//!
//! One task a URL. It fetches again after the refresh time, sooner while there is no key set yet; what was
//! fetched last stays while the issuer is down. Envoys never fetch: they get keys with their configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::key_file::{all_jwks, parse};
use crate::gateway::Gateway;

/// Key sets by URL. One that was never fetched is missing.
pub type KeyUrls = BTreeMap<String, Arc<Value>>;

/// Time for one fetch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a key set at most.
const MAX_BYTES: usize = 1024 * 1024;
/// First pause after a failed fetch; it doubles up to the refresh time.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Fetches what the current gateway names.
pub struct KeyFetcher {
    client: reqwest::Client,
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
    /// Fetches nothing yet.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new() -> Result<Self, reqwest::Error> {
        // One provider for the whole process; a second call finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .user_agent(concat!("tollgate-xds-server/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, tasks: BTreeMap::new(), sender: Arc::new(watch::Sender::new(KeyUrls::new())) })
    }

    /// Key sets as they come.
    pub fn subscribe(&self) -> watch::Receiver<KeyUrls> {
        self.sender.subscribe()
    }

    /// Fetches exactly what `gateway` names from now on. Must be called within a runtime.
    pub fn follow(&mut self, gateway: &Gateway) {
        let mut wanted = BTreeMap::new();
        for (_, jwks) in all_jwks(gateway) {
            if let Some(url) = &jwks.url {
                let refresh = jwks.refresh.get();
                // Named twice: the shorter time serves both.
                wanted
                    .entry(url.clone())
                    .and_modify(|time: &mut Duration| *time = refresh.min(*time))
                    .or_insert(refresh);
            }
        }
        self.tasks.retain(|url, task| wanted.get(url) == Some(&task.refresh));
        self.sender.send_if_modified(|sets| {
            let before = sets.len();
            sets.retain(|url, _| wanted.contains_key(url));
            sets.len() != before
        });
        for (url, refresh) in wanted {
            self.tasks.entry(url).or_insert_with_key(|url| {
                let run = keep_fetching(self.client.clone(), url.clone(), refresh, Arc::clone(&self.sender));
                Task { refresh, handle: tokio::spawn(run) }
            });
        }
    }
}

async fn keep_fetching(
    client: reqwest::Client,
    url: String,
    refresh: Duration,
    sender: Arc<watch::Sender<KeyUrls>>,
) {
    let mut retry = FIRST_RETRY;
    let mut down = false;
    loop {
        match fetch(&client, &url).await {
            Ok(set) => {
                let changed = sender.send_if_modified(|sets| match sets.get(&url) {
                    Some(known) if **known == set => false,
                    _ => sets.insert(url.clone(), Arc::new(set)).is_none_or(|_| true),
                });
                if changed || down {
                    tracing::info!(url, changed, "issuer's keys fetched");
                }
                (retry, down) = (FIRST_RETRY, false);
                tokio::time::sleep(refresh).await;
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
                retry = (retry * 2).min(refresh);
            }
        }
    }
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<Value, String> {
    // Without the URL: it may hold credentials, and the log line names it already.
    let describe = |error: reqwest::Error| {
        let error = error.without_url();
        std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    };
    let mut response = client.get(url).header("accept", "application/json").send().await.map_err(describe)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("status {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(describe)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(format!("more than {MAX_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    parse(std::str::from_utf8(&body).map_err(|_| "not UTF-8 text")?)
}

#[cfg(test)]
mod tests;
