//! Knowing all that any other replica may know: a proxy that comes from a replica that was faster must not be sent what
//! is older than what it has.
//!
//! A linearizable read says what was committed before it. Once that was heard of and judged here, whoever came before the
//! read can be served. Proxies that come together share a read.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::Connection;
use super::{Etcd, State};
use crate::status::lock;

/// How long a proxy waits at most. Without etcd's answer, what is there is served.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Fence {
    /// Of the session, while there is one.
    connection: Mutex<Option<Connection>>,
    /// Revision up to which all was judged.
    judged: watch::Sender<i64>,
    /// When the last read began that was waited for successfully.
    last: tokio::sync::Mutex<Option<Instant>>,
}

impl Fence {
    pub fn judged(&self, revision: i64) {
        self.judged.send_if_modified(|judged| {
            let is_later = revision > *judged;
            *judged = revision.max(*judged);
            is_later
        });
    }

    pub fn session(&self, connection: Option<Connection>) {
        *lock(&self.connection) = connection;
    }
}

impl Etcd {
    /// Waits until everything that was committed before the call was judged here; a second at most, and not at all while etcd
    /// is not followed: nobody commits while it is away.
    pub async fn catch_up(&self) {
        if tokio::time::timeout(PATIENCE, self.wait_for_committed()).await.is_err() {
            tracing::warn!("etcd does not say whether this server is up to date; serving what it has");
        }
    }

    async fn wait_for_committed(&self) {
        let fence = &self.shared.fence;
        let came = Instant::now();
        let mut last = fence.last.lock().await;
        if last.is_some_and(|began| began >= came) {
            return;
        }
        let began = Instant::now();
        let connection = lock(&fence.connection).clone();
        let Some(connection) = connection else { return };
        let Ok(committed) = connection.keys(0).await else { return };
        let mut judged = fence.judged.subscribe();
        let newest = || self.newest();
        // What is heard of is judged soon after.
        while !(newest().covers(&committed) && *judged.borrow_and_update() >= newest().revision) {
            if judged.changed().await.is_err() {
                return;
            }
        }
        *last = Some(began);
    }
}

impl State {
    /// Whether this is what `keys` says, or what came later. A change that only deletes leaves fewer keys.
    fn covers(&self, keys: &Self) -> bool {
        let (written, asked) = (self.written(), keys.written());
        written > asked || (written == asked && self.documents.len() <= keys.documents.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::etcd::state::Document;

    #[test]
    fn a_state_covers_what_was_committed_before_it() {
        let state = |written: &[i64]| {
            let documents = written
                .iter()
                .map(|&modified| (modified.to_string(), Document { modified, value: Default::default() }));
            State { cluster: 1, revision: 9, documents: documents.collect() }
        };
        let committed = state(&[3, 5]);
        for (held, covers) in
            [(&[3, 5][..], true), (&[3, 6], true), (&[5], true), (&[3, 4], false), (&[2, 3, 5], false)]
        {
            assert_eq!(state(held).covers(&committed), covers, "{held:?}");
        }
    }
}
