//! How the quota service stands, for `/status`. Not how it is shown (`http`).

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::Serialize;

use super::Counters;
use crate::status::{lock, unix_seconds};

/// How it stands; clones tell the same.
#[derive(Debug, Clone)]
pub struct QuotaStatus {
    store: Arc<str>,
    failure: Arc<Mutex<Option<Failure>>>,
    counters: Counters,
}

/// What `/status` shows.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Memory, or which Redis, without credentials.
    store: String,
    granted: u64,
    returned: u64,
    denials: u64,
    /// Why the store can't be reached. `null` while it can.
    error: Option<Failure>,
}

#[derive(Debug, Clone, Serialize)]
struct Failure {
    text: String,
    /// In seconds since 1970.
    since: u64,
}

impl QuotaStatus {
    pub(super) fn new(store: &str, counters: Counters) -> Self {
        Self { store: store.into(), failure: Arc::default(), counters }
    }

    /// The store answered, or why not. Logs when that changes.
    pub(super) fn note(&self, error: Option<String>) {
        let mut failure = lock(&self.failure);
        match (&*failure, error) {
            (None, Some(text)) => {
                tracing::error!(store = %self.store, problem = text, "the quota store fails");
                *failure = Some(Failure { text, since: unix_seconds(SystemTime::now()) });
            }
            (Some(_), None) => {
                tracing::info!(store = %self.store, "the quota store answers again");
                *failure = None;
            }
            _ => {}
        }
    }

    /// What `/status` shows.
    pub fn show(&self) -> Shown {
        Shown {
            store: self.store.to_string(),
            granted: self.counters.granted.get(),
            returned: self.counters.returned.get(),
            denials: self.counters.denials.get(),
            error: lock(&self.failure).clone(),
        }
    }
}
