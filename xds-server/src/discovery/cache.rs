//! The snapshot each node group is served now.
//!
//! One `watch` a group: a stream sees the latest when it gets to it, so a slow one skips what it missed and nobody
//! keeps a queue. A group without a snapshot makes its streams wait rather than serving them nothing, which would tell
//! a proxy to drop all it has.
//!
//! Some proxies of a group may be given another snapshot ahead of the rest: its canaries.
//!
//! Not here: which group a node belongs to, who is a canary, and whether a group may move on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::registry::Proxy;
use crate::snapshot::Snapshot;

type Current = Option<Arc<Snapshot>>;

/// Snapshots by node group. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct SnapshotCache {
    groups: Arc<Mutex<HashMap<String, watch::Sender<Published>>>>,
}

/// What one group is served.
#[derive(Debug, Default)]
struct Published {
    all: Current,
    canary: Option<Canary>,
}

/// A snapshot for some of a group's proxies.
#[derive(Clone)]
pub struct Canary {
    /// Whom it is for.
    pub selects: Selector,
    /// What they get.
    pub snapshot: Arc<Snapshot>,
}

/// Chooses proxies. Called for every stream of the group whenever something is published.
pub type Selector = Arc<dyn Fn(&Proxy) -> bool + Send + Sync>;

impl SnapshotCache {
    /// An empty cache.
    pub fn new() -> SnapshotCache {
        SnapshotCache::default()
    }

    /// Publishes a snapshot to every stream of the group, now and later.
    pub fn set(&self, group: &str, snapshot: Arc<Snapshot>) {
        let mut groups = self.lock();
        groups.entry(group.to_owned()).or_default().send_modify(|published| published.all = Some(snapshot));
    }

    /// Publishes another snapshot to some of the group's streams, or to nobody any more: they go back to the group's.
    pub fn set_canary(&self, group: &str, canary: Option<Canary>) {
        let mut groups = self.lock();
        groups.entry(group.to_owned()).or_default().send_modify(|published| published.canary = canary);
        forget_if_unused(&mut groups, group);
    }

    /// Withdraws the group's snapshot: connected proxies keep what they have, new ones wait.
    pub fn clear(&self, group: &str) {
        let mut groups = self.lock();
        if let Some(sender) = groups.get(group) {
            sender.send_replace(Published::default());
            forget_if_unused(&mut groups, group);
        }
    }

    /// The group's snapshot.
    pub fn get(&self, group: &str) -> Current {
        self.lock().get(group).and_then(|sender| sender.borrow().all.clone())
    }

    /// Groups that have a snapshot, unordered.
    pub fn groups(&self) -> Vec<String> {
        self.lock()
            .iter()
            .filter(|(_, sender)| sender.borrow().all.is_some())
            .map(|(group, _)| group.clone())
            .collect()
    }

    /// Follows the group's snapshot, whether it has one yet or not.
    pub fn watch(&self, group: &str) -> Watch {
        let receiver = self.lock().entry(group.to_owned()).or_default().subscribe();
        Watch { cache: self.clone(), group: group.to_owned(), proxy: None, receiver: Some(receiver) }
    }

    /// Follows the snapshot that a proxy is served, which is not its group's while it is a canary.
    pub fn watch_as(&self, proxy: &Arc<Proxy>) -> Watch {
        let mut watch = self.watch(&proxy.group);
        watch.proxy = Some(proxy.clone());
        watch
    }

    // Held for a map look-up only: never while sending to a client.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Published>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canary").field("snapshot", self.snapshot.version()).finish_non_exhaustive()
    }
}

/// A proxy's snapshot as it changes. Dropping the last one of a group nobody publishes to forgets the group: its name
/// came from a peer.
#[derive(Debug)]
pub struct Watch {
    cache: SnapshotCache,
    group: String,
    proxy: Option<Arc<Proxy>>,
    receiver: Option<watch::Receiver<Published>>,
}

impl Watch {
    /// The latest, marked as seen.
    pub fn latest(&mut self) -> Current {
        let published = self.receiver.as_mut()?.borrow_and_update();
        match (&published.canary, &self.proxy) {
            (Some(canary), Some(proxy)) if (canary.selects)(proxy) => Some(canary.snapshot.clone()),
            _ => published.all.clone(),
        }
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

fn forget_if_unused(groups: &mut HashMap<String, watch::Sender<Published>>, group: &str) {
    let unused = |sender: &watch::Sender<Published>| {
        let published = sender.borrow();
        sender.receiver_count() == 0 && published.all.is_none() && published.canary.is_none()
    };
    if groups.get(group).is_some_and(unused) {
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
    fn canaries_get_their_own_snapshot_until_it_is_taken_back() {
        let cache = SnapshotCache::new();
        let ahead = Arc::new(Snapshot::builder().build());
        let mut watches = ["edge-1", "edge-2"].map(|id| cache.watch_as(&Proxy::named(id, "edge")));
        let mut sees_ahead = || watches.each_mut().map(|watch| Arc::ptr_eq(&watch.latest().unwrap(), &ahead));
        cache.set("edge", Arc::default());
        let selects: Selector = Arc::new(|proxy| proxy.id == "edge-2");
        cache.set_canary("edge", Some(Canary { selects, snapshot: ahead.clone() }));
        assert_eq!(sees_ahead(), [false, true]);
        cache.set_canary("edge", None);
        assert_eq!(sees_ahead(), [false, false]);
    }

    #[test]
    fn a_cleared_group_has_no_snapshot() {
        let cache = SnapshotCache::new();
        cache.set("edge", Arc::default());
        cache.clear("edge");
        assert!(cache.get("edge").is_none() && cache.groups().is_empty());
    }
}
