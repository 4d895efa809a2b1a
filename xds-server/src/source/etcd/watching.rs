//! Follows etcd for as long as the server runs: one session a connection, each at the revision where the last one ended.
//!
//! A session first makes sure that it goes on from the same history: an etcd that was restored from a backup may have
//! passed the revision that was seen, with other transactions. What doesn't fit, or was compacted away, is read anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::connection::Connection;
use super::wire::WatchResponse;
use super::{Etcd, EtcdError, FIRST_PAUSE, LONGEST_PAUSE, MAX_WAITING, State};
use crate::status::{lock, unix_seconds};

impl Etcd {
    /// Follows etcd, through all its endpoints in turn. Never ends.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        for number in 0.. {
            let Err(error) = self.session(number, &mut pause).await;
            self.disconnected(&error);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn session(
        &self,
        number: usize,
        pause: &mut Duration,
    ) -> Result<std::convert::Infallible, EtcdError> {
        let connection = Connection::open(&self.settings, number).await?;
        let (newest, seen) = {
            let read = lock(&self.shared.read);
            (Arc::clone(&read.newest), read.seen)
        };
        let mut from = match self.goes_on(&connection, &newest, seen).await {
            Ok(true) => seen,
            Ok(false) | Err(EtcdError::Compacted) => self.read_anew(&connection).await?,
            Err(error) => return Err(error),
        };
        loop {
            let mut watching = connection.watch(from + 1).await?;
            let ended = loop {
                match watching.next().await {
                    Ok(answer) if answer.created => {
                        *pause = FIRST_PAUSE;
                        self.connected(&connection);
                    }
                    Ok(answer) => self.take(&answer),
                    Err(error) => break error,
                }
            };
            // While a watch was away, or was too slow.
            let EtcdError::Compacted = ended else { return Err(ended) };
            from = self.read_anew(&connection).await?;
        }
    }

    /// Whether etcd's history holds what was seen of it.
    async fn goes_on(&self, connection: &Connection, newest: &State, seen: i64) -> Result<bool, EtcdError> {
        let found = connection.revision().await?;
        if found < seen {
            return Err(self.kept.older(found, seen));
        }
        let then = connection.keys(seen).await?;
        Ok(then.was_written_like(newest))
    }

    async fn read_anew(&self, connection: &Connection) -> Result<i64, EtcdError> {
        let state = connection.read(None).await?;
        let revision = state.revision;
        {
            let mut read = lock(&self.shared.read);
            if revision < read.seen {
                return Err(self.kept.older(revision, read.seen));
            }
            tracing::info!(
                revision,
                seen = read.seen,
                "etcd's changes can't be followed from there on; all keys read anew"
            );
            read.before.clear();
            read.newest = Arc::new(state);
            read.is_anew = true;
            read.seen = revision;
        }
        self.tell();
        Ok(revision)
    }

    /// Events come in the order of their revisions, those of one revision together.
    fn take(&self, answer: &WatchResponse) {
        {
            let mut read = lock(&self.shared.read);
            let revision_of = |event: &super::wire::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            for transaction in answer.events.chunk_by(|one, next| revision_of(one) == revision_of(next)) {
                let revision = transaction.first().map_or(0, revision_of);
                if revision <= read.seen {
                    continue;
                }
                let next = Arc::new(read.newest.then(revision, transaction));
                let before = std::mem::replace(&mut read.newest, next);
                read.before.push_back(before);
                if read.before.len() > MAX_WAITING {
                    read.before.pop_front();
                }
                read.seen = revision;
            }
            // Without events, it only says how far etcd is. That is where a watch that ends now resumes, though what this one
            // saw last may be compacted by then.
            if let Some(header) = answer.header.as_ref().filter(|_| answer.events.is_empty()) {
                read.seen = read.seen.max(header.revision);
                return;
            }
        }
        self.tell();
    }

    fn tell(&self) {
        let revision = self.newest().revision;
        lock(&self.shared.status).revision = revision;
        self.shared.changed.notify_one();
    }

    fn connected(&self, connection: &Connection) {
        self.shared.fence.session(Some(connection.clone()));
        let mut status = lock(&self.shared.status);
        if !status.connected {
            tracing::info!(revision = status.revision, "following etcd again");
            status.since = unix_seconds(SystemTime::now());
        }
        status.connected = true;
        status.error = None;
    }

    fn disconnected(&self, error: &EtcdError) {
        self.shared.fence.session(None);
        let mut status = lock(&self.shared.status);
        let text = error.to_string();
        if status.connected {
            status.since = unix_seconds(SystemTime::now());
        }
        if status.error.as_ref() != Some(&text) {
            tracing::warn!(problem = text, "etcd can't be followed; what it held last is served");
        }
        status.connected = false;
        status.error = Some(text);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::fence::Fence;
    use super::super::kept::Kept;
    use super::super::wire::{Event, KeyValue, ResponseHeader};
    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        etcd: crate::settings::etcd::Etcd,
    }

    fn etcd_at(revision: i64) -> Etcd {
        let folder = tempfile::tempdir().unwrap();
        let state = State { cluster: 1, revision, documents: Default::default() };
        let settings = Only::parse_from(["x"]).etcd;
        Etcd::beginning(&settings, Kept::open(folder.path(), "/t/"), Arc::new(state), None, Fence::default())
    }

    /// etcd is at `revision`, and these keys were written at these.
    fn answer(revision: i64, written: &[(&'static str, i64)]) -> WatchResponse {
        let events = written.iter().map(|&(key, mod_revision)| Event {
            r#type: 0,
            kv: Some(KeyValue { key: key.into(), mod_revision, value: "v".into() }),
        });
        let header = Some(ResponseHeader { cluster_id: 1, revision });
        WatchResponse { header, events: events.collect(), ..WatchResponse::default() }
    }

    #[tokio::test]
    async fn each_transaction_is_a_state_of_its_own() {
        let etcd = etcd_at(5);
        etcd.take(&answer(9, &[("a", 6), ("b", 6), ("a", 8)]));
        etcd.changed().await;
        let newest = etcd.newest();
        assert_eq!((newest.revision, newest.documents.len()), (8, 2));
        let before = etcd.before(&newest, 5).await.unwrap();
        assert_eq!((before.revision, before.documents["a"].modified), (6, 6));
        etcd.judged(&newest);
        assert!(etcd.before(&newest, 5).await.is_none());
    }

    #[test]
    fn what_was_seen_before_is_passed_over_and_an_idle_watch_goes_on_from_where_etcd_is() {
        let etcd = etcd_at(5);
        etcd.take(&answer(5, &[("a", 5)]));
        assert!(etcd.newest().documents.is_empty());
        etcd.take(&answer(50, &[]));
        assert_eq!((etcd.newest().revision, lock(&etcd.shared.read).seen), (5, 50));
        etcd.take(&answer(51, &[("a", 51)]));
        assert_eq!(lock(&etcd.shared.read).seen, 51);
    }

    #[test]
    fn no_more_states_wait_than_are_allowed() {
        let etcd = etcd_at(0);
        (1..=1_000).for_each(|revision| etcd.take(&answer(revision, &[("a", revision)])));
        assert_eq!(lock(&etcd.shared.read).before.len(), MAX_WAITING);
    }
}
