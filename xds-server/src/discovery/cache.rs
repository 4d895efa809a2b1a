//! The snapshot each node group is served now.
//!
//! One `watch` a group: a stream sees the latest when it gets to it, so a slow one skips what it missed and nobody
//! keeps a queue. A group without a snapshot makes its streams wait rather than serving them nothing, which would tell
//! a proxy to drop all it has.
//!
//! Not here: which group a node belongs to, and whether a group may move on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::snapshot::Snapshot;

type Current = Option<Arc<Snapshot>>;

/// Snapshots by node group. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct SnapshotCache {
    groups: Arc<Mutex<HashMap<String, watch::Sender<Current>>>>,
}

impl SnapshotCache {
    /// An empty cache.
    pub fn new() -> SnapshotCache {
        SnapshotCache::default()
    }

    /// Publishes a snapshot to every stream of the group, now and later.
    pub fn set(&self, group: &str, snapshot: Arc<Snapshot>) {
        self.lock().entry(group.to_owned()).or_default().send_replace(Some(snapshot));
    }

    /// Withdraws the group's snapshot: connected proxies keep what they have, new ones wait.
    pub fn clear(&self, group: &str) {
        let mut groups = self.lock();
        if let Some(sender) = groups.get(group) {
            sender.send_replace(None);
            forget_if_unused(&mut groups, group);
        }
    }

    /// The group's snapshot.
    pub fn get(&self, group: &str) -> Current {
        self.lock().get(group).and_then(|sender| sender.borrow().clone())
    }

    /// Groups that have a snapshot, unordered.
    pub fn groups(&self) -> Vec<String> {
        self.lock()
            .iter()
            .filter(|(_, sender)| sender.borrow().is_some())
            .map(|(group, _)| group.clone())
            .collect()
    }

    /// Follows the group's snapshot, whether it has one yet or not.
    pub fn watch(&self, group: &str) -> Watch {
        let receiver = self.lock().entry(group.to_owned()).or_default().subscribe();
        Watch { cache: self.clone(), group: group.to_owned(), receiver: Some(receiver) }
    }

    // Held for a map look-up only: never while sending to a client.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Current>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group's snapshot as it changes. Dropping the last one of a group nobody publishes to forgets the group: its name
/// came from a peer.
#[derive(Debug)]
pub struct Watch {
    cache: SnapshotCache,
    group: String,
    receiver: Option<watch::Receiver<Current>>,
}

impl Watch {
    /// The latest, marked as seen.
    pub fn latest(&mut self) -> Current {
        self.receiver.as_mut().and_then(|receiver| receiver.borrow_and_update().clone())
    }

    /// Waits until there is a later one than was last seen. Cancel safe.
    pub async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_ok()
        {
            return;
        }
        // The sender lives as long as a receiver does; without one there is nothing to wait for.
        std::future::pending().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.receiver = None;
        forget_if_unused(&mut self.cache.lock(), &self.group);
    }
}

fn forget_if_unused(groups: &mut HashMap<String, watch::Sender<Current>>, group: &str) {
    if groups.get(group).is_some_and(|sender| sender.receiver_count() == 0 && sender.borrow().is_none()) {
        groups.remove(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_sees_the_latest_only() {
        let cache = SnapshotCache::new();
        let mut watch = cache.watch("edge");
        assert!(watch.latest().is_none());
        let last = Arc::new(Snapshot::builder().build());
        cache.set("edge", Arc::default());
        cache.set("edge", last.clone());
        watch.changed().await;
        assert!(Arc::ptr_eq(&watch.latest().unwrap(), &last));
    }

    #[test]
    fn a_group_that_only_a_peer_named_is_forgotten() {
        let cache = SnapshotCache::new();
        drop((cache.watch("made up"), cache.watch("made up")));
        assert!(cache.lock().is_empty());
        cache.set("edge", Arc::default());
        drop(cache.watch("edge"));
        assert_eq!(cache.groups(), ["edge"]);
    }

    #[test]
    fn a_cleared_group_has_no_snapshot() {
        let cache = SnapshotCache::new();
        cache.set("edge", Arc::default());
        cache.clear("edge");
        assert!(cache.get("edge").is_none() && cache.groups().is_empty());
    }
}
