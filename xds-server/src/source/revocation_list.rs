//! Lists of what was revoked, polled from URLs that the YAML names (`revocations: {url: …}`).
//!
//! One task a URL. What was listed last counts while the service is down, also over a restart: it is kept on disk. Not
//! here: telling Envoys ([`revocations`](crate::revocations)).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tollgate_filter_config::{Revoked, RevokedKind};
use xxhash_rust::xxh3::xxh3_64;

use super::file::{read_file, replace};
use crate::fetch::{self, Fetched};
use crate::gateway::Gateway;
use crate::gateway::model::AuthProvider;
use crate::revocations::Revocations;

/// Time for one fetch.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a list at most.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Longest pause after failed fetches.
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// A long list that changes all the time is written no more often.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// A list of so many bytes is written whenever it changes.
const SMALL: usize = 256 * 1024;

/// Polls what the current gateway names.
pub struct RevocationFetcher {
    client: reqwest::Client,
    folder: PathBuf,
    tasks: BTreeMap<String, Task>,
    revocations: Revocations,
}

struct Task {
    every: Duration,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl RevocationFetcher {
    /// Polls nothing yet; keeps lists in `folder`, and hands them to `revocations`.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new(folder: impl Into<PathBuf>, revocations: Revocations) -> Result<Self, reqwest::Error> {
        let client = client()?;
        Ok(Self { client, folder: folder.into(), tasks: BTreeMap::new(), revocations })
    }

    /// Polls exactly what `gateway` names from now on. Must be called within a runtime.
    pub fn follow(&mut self, gateway: &Gateway) {
        let wanted = urls(gateway);
        self.tasks.retain(|url, task| wanted.get(url) == Some(&task.every));
        for url in self.revocations.status().into_keys().filter(|url| !wanted.contains_key(url)) {
            self.revocations.forget(&url);
        }
        for (url, every) in wanted {
            self.tasks.entry(url).or_insert_with_key(|url| {
                let file = self.folder.join(format!("revocations-{:016x}.json", xxh3_64(url.as_bytes())));
                let (client, revocations) = (self.client.clone(), self.revocations.clone());
                let list = List { client, url: url.clone(), every, file, revocations };
                Task { every, handle: tokio::spawn(list.keep_polling()) }
            });
        }
    }
}

/// The URLs that a gateway names. Named twice, the shorter time serves both.
fn urls(gateway: &Gateway) -> BTreeMap<String, Duration> {
    let providers = gateway.policies.auth.values().flat_map(|policy| policy.providers().1);
    let mut urls = BTreeMap::new();
    for list in providers.filter_map(AuthProvider::revocations) {
        let every = list.every.get();
        urls.entry(list.url.clone())
            .and_modify(|time: &mut Duration| *time = every.min(*time))
            .or_insert(every);
    }
    urls
}

/// One URL that is polled again and again.
struct List {
    client: reqwest::Client,
    url: String,
    every: Duration,
    file: PathBuf,
    revocations: Revocations,
}

impl List {
    async fn keep_polling(self) {
        let Self { client, url, every, revocations, .. } = &self;
        let mut on_disk = None;
        if let Some(kept) = self.kept()
            && let Ok(revoked) = parse(&kept)
        {
            on_disk = Some(xxh3_64(kept.as_bytes()));
            tracing::info!(
                url,
                revoked = revoked.len(),
                "what is revoked is that of an earlier run until it is fetched"
            );
            revocations.learn(url, revoked);
        }
        let (mut etag, mut unkept, mut kept_at): (_, _, Option<Instant>) = (None, None, None);
        let mut pause = *every;
        loop {
            let began = Instant::now();
            match list(client, url, etag.as_ref()).await {
                Ok((changed, now)) => {
                    if let Some((revoked, text)) = changed {
                        revocations.learn(url, revoked);
                        unkept = Some(text).filter(|text| on_disk != Some(xxh3_64(text.as_bytes())));
                    }
                    revocations.note(url, None);
                    (etag, pause) = (now, *every);
                }
                Err(error) => {
                    revocations.note(url, Some(error));
                    pause = (pause * 2).min(LONGEST_RETRY).max(*every);
                }
            }
            let rested = kept_at.is_none_or(|at: Instant| at.elapsed() >= KEEP_EVERY);
            if let Some(text) = unkept.take_if(|text: &mut String| rested || text.len() <= SMALL) {
                self.keep(&text);
                on_disk = Some(xxh3_64(text.as_bytes()));
                kept_at = Some(Instant::now());
            }
            // Replicas that started together don't ask together for long.
            let jitter = every.mul_f64(f64::from(getrandom::u32().unwrap_or(0) % 1_000) / 10_000.0);
            tokio::time::sleep((pause + jitter).saturating_sub(began.elapsed())).await;
        }
    }

    fn kept(&self) -> Option<String> {
        let mut kept: Value = serde_json::from_str(&read_file(&self.file).ok()?.text).ok()?;
        // Two URLs with one hash must not share a list.
        match (kept["url"] == *self.url, kept["list"].take()) {
            (true, Value::String(list)) => Some(list),
            _ => None,
        }
    }

    /// Without it, the server works all the same: a failure is only told.
    fn keep(&self, list: &str) {
        if let Err(error) = replace(&self.file, &json!({"url": self.url, "list": list}).to_string()) {
            tracing::warn!(file = %self.file.display(), %error, "can't keep what is revoked for the next start");
        }
    }
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    // One provider for the whole process; a second call finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(Policy::none())
        .user_agent(concat!("tollgate-xds-server/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The list with its text, unless it is the one with that ETag, and the ETag it has now.
async fn list(
    client: &reqwest::Client,
    url: &str,
    etag: Option<&HeaderValue>,
) -> Result<(Option<(Vec<Revoked>, String)>, Option<HeaderValue>), String> {
    let request = client.get(url).header("accept", "application/json");
    let Fetched { text, etag, .. } = fetch::if_changed(request, etag, MAX_BYTES).await?;
    let list = text.map(|text| parse(&text).map(|revoked| (revoked, text))).transpose()?;
    Ok((list, etag))
}

/// Reads a list: `{"api_keys": […], "tokens": […], "sessions": […]}`, one of them at least, with entries
/// `{"id": …, "until": SECONDS}`. Never shows the text.
fn parse(text: &str) -> Result<Vec<Revoked>, String> {
    #[derive(Deserialize)]
    struct Lists {
        api_keys: Option<Vec<Entry>>,
        tokens: Option<Vec<Entry>>,
        sessions: Option<Vec<Entry>>,
    }
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        until: u64,
    }
    let lists: Lists = serde_json::from_str(text).map_err(|error| {
        format!("no list of revocations at line {} column {}", error.line(), error.column())
    })?;
    let lists = [
        (RevokedKind::ApiKey, lists.api_keys),
        (RevokedKind::Token, lists.tokens),
        (RevokedKind::Session, lists.sessions),
    ];
    if lists.iter().all(|(_, entries)| entries.is_none()) {
        return Err("no list of revocations: there is none of `api_keys`, `tokens` and `sessions`".into());
    }
    let entries = lists.into_iter().flat_map(|(kind, entries)| {
        entries.into_iter().flatten().map(move |Entry { id, until }| Revoked(kind, id, until))
    });
    Ok(entries.collect())
}

#[cfg(test)]
mod tests;
