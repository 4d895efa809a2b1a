//! What was revoked, on its way from the services that know it to the filters of all Envoys.
//!
//! ```text
//! a service's list ── polled by source::revocation_list ──► journal ── GET /revocations?after=CURSOR ──► every worker's VM
//! ```
//!
//! Each VM has one call under way, which is answered as soon as there is something newer than its cursor: an Envoy hears of a
//! revocation within a poll and a round trip, a change costs what changed, and what is idle costs a call each
//! [`HOLD`]. The route is on the quota service's port, which Envoys reach anyway, and on its threads.
//!
//! Not here: fetching and reading lists (`source`); what filters do with it (tollgate-filter-core, `revocations`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tollgate_filter_config::Revoked;

use crate::status::{lock, unix_seconds};
use journal::Journal;

mod journal;
#[cfg(test)]
mod tests;

/// Where filters ask, on the quota service's port.
pub const PATH: &str = "/revocations";
/// How long a call without news is held.
pub const HOLD: Duration = Duration::from_secs(20);
/// Calls under way at most.
const MAX_CALLS: usize = 16_384;

/// All that was revoked; clones are the same.
#[derive(Clone)]
pub struct Revocations(Arc<Inner>);

struct Inner {
    journal: Mutex<Journal>,
    lists: Mutex<BTreeMap<String, ListStatus>>,
    /// Touched when there is news; `true` when it ends.
    changed: watch::Sender<bool>,
    calls: Semaphore,
    entries: IntGaugeVec,
    fetched_at: IntGaugeVec,
    fetches: IntCounterVec,
    dropped: IntCounter,
}

/// How a list stands, for `/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ListStatus {
    /// Revocations on it.
    entries: usize,
    /// When the service last answered, in seconds since 1970; 0 if it never did.
    fetched_at: u64,
    /// Why it does not answer. `null` while it does.
    error: Option<String>,
}

impl Revocations {
    /// Nothing was revoked.
    ///
    /// # Errors
    /// When a metric's name is bad or there are no random numbers, which a test would show.
    pub fn new() -> anyhow::Result<Self> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["list"]);
        Ok(Self(Arc::new(Inner {
            journal: Mutex::new(Journal::new(
                getrandom::u64().map_err(|_| anyhow::anyhow!("no random number"))?,
            )),
            lists: Mutex::default(),
            changed: watch::Sender::new(false),
            calls: Semaphore::new(MAX_CALLS),
            entries: gauge("tollgate_revocations", "Revocations on a list, by its URL")?,
            fetched_at: gauge(
                "tollgate_revocations_fetched_timestamp_seconds",
                "When a list's service last answered, by its URL",
            )?,
            fetches: IntCounterVec::new(
                Opts::new(
                    "tollgate_revocation_fetches_total",
                    "Tries to fetch a list, by its URL and result (ok, failed)",
                ),
                &["list", "result"],
            )?,
            dropped: IntCounter::new(
                "tollgate_revocations_dropped_total",
                "Revocations that had no room: above zero, something revoked may still be accepted",
            )?,
        })))
    }

    /// For the registry.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let Inner { entries, fetched_at, fetches, dropped, .. } = &*self.0;
        vec![
            Box::new(entries.clone()),
            Box::new(fetched_at.clone()),
            Box::new(fetches.clone()),
            Box::new(dropped.clone()),
        ]
    }

    /// How each list stands.
    pub fn status(&self) -> BTreeMap<String, ListStatus> {
        lock(&self.0.lists).clone()
    }

    /// A service says, or said in an earlier run, that these are revoked. Tells whether any was news.
    pub fn learn(&self, list: &str, revoked: Vec<Revoked>) -> bool {
        let now = unix_seconds(SystemTime::now());
        let entries = revoked.len();
        lock(&self.0.lists).entry(list.to_owned()).or_default().entries = entries;
        self.0.entries.with_label_values(&[list]).set(i64::try_from(entries).unwrap_or(i64::MAX));
        let learned = lock(&self.0.journal).learn(list, revoked, now);
        if learned.dropped > 0 {
            tracing::error!(
                list,
                dropped = learned.dropped,
                "too many revocations: those that end first are dropped"
            );
            self.0.dropped.inc_by(learned.dropped as u64);
        }
        if learned.news > 0 {
            self.0.changed.send_modify(|_| {});
        }
        learned.news > 0
    }

    /// A service answered, or why not. Logs when that changes.
    pub fn note(&self, list: &str, failure: Option<String>) {
        let result = if failure.is_none() { "ok" } else { "failed" };
        self.0.fetches.with_label_values(&[list, result]).inc();
        let mut lists = lock(&self.0.lists);
        let status = lists.entry(list.to_owned()).or_default();
        match (&status.error, &failure) {
            (None, Some(error)) => {
                tracing::warn!(
                    list,
                    error,
                    "can't fetch what is revoked; the last list counts, and it is tried again"
                );
            }
            (Some(_), None) => tracing::info!(list, "what is revoked is fetched again"),
            _ => {}
        }
        status.error = failure;
        if status.error.is_none() {
            status.fetched_at = unix_seconds(SystemTime::now());
            let at = i64::try_from(status.fetched_at).unwrap_or(i64::MAX);
            self.0.fetched_at.with_label_values(&[list]).set(at);
        }
    }

    /// A list is no longer named.
    pub fn forget(&self, list: &str) {
        lock(&self.0.lists).remove(list);
        lock(&self.0.journal).forget(list);
        for gauge in [&self.0.entries, &self.0.fetched_at] {
            // It is not there where the service never answered.
            let _ = gauge.remove_label_values(&[list]);
        }
    }

    /// Ends the calls that are held, as the server stops.
    pub fn close(&self) {
        self.0.changed.send_replace(true);
    }

    /// What filters ask.
    pub fn router(&self) -> Router {
        Router::new().route(PATH, get(answer)).with_state(self.clone())
    }

    /// All that counts.
    #[cfg(test)]
    pub fn everything(&self) -> tollgate_filter_config::RevocationUpdate {
        lock(&self.0.journal).told("").unwrap_or_default()
    }

    /// What is newer than the cursor, as JSON, waiting for it for so long. `None` where nothing came.
    async fn newer(&self, cursor: &str, hold: Duration) -> serde_json::Result<Option<Bytes>> {
        let mut changed = self.0.changed.subscribe();
        let news = async {
            loop {
                let closed = *changed.borrow_and_update();
                let update = lock(&self.0.journal).since(cursor)?;
                if update.is_some() || closed || changed.changed().await.is_err() {
                    return Ok(update);
                }
            }
        };
        tokio::time::timeout(hold, news).await.unwrap_or(Ok(None))
    }
}

/// What a filter asks.
#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    after: String,
}

async fn answer(State(revocations): State<Revocations>, Query(asked): Query<Asked>) -> Response {
    let Ok(_permit) = revocations.0.calls.try_acquire() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    match revocations.newer(&asked.after, HOLD).await {
        Ok(Some(update)) => ([(header::CONTENT_TYPE, "application/json")], update).into_response(),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::error!(%error, "can't say what is revoked");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
