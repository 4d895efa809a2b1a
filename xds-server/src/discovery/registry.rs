//! Who is connected, what each stream holds, and whether a group has arrived at a snapshot.
//!
//! Streams report here after every turn; rollout, the status page and the metrics read. One entry a stream: a proxy
//! that uses one stream a type has several, told apart by [`Proxy::stream`]. Each entry has its own lock, so that
//! reports do not wait for one another.
//!
//! Not here: any decision about what to send.

mod counters;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::sync::{broadcast, watch};

use super::session::{Answer, Flavour, Scope, Session, TypeStatus};
use crate::snapshot::{Snapshot, TypeUrl};
pub use counters::{Count, Counters};

/// Events kept for a subscriber that does not read; an older one is lost to it (`RecvError::Lagged`).
const EVENTS_KEPT: usize = 1024;

/// Everybody who is connected. Clones share their content.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    streams: RwLock<HashMap<u64, Arc<Entry>>>,
    next: AtomicU64,
    events: broadcast::Sender<Event>,
    revision: watch::Sender<u64>,
    counters: Counters,
}

#[derive(Debug)]
struct Entry {
    proxy: Arc<Proxy>,
    types: Mutex<BTreeMap<TypeUrl, TypeStatus>>,
    session: SharedSession,
}

/// A stream's session, which its task locks for a turn and whoever asks about its resources for the answer.
pub(super) type SharedSession = Arc<Mutex<Session>>;

/// One stream of one proxy, as its first request described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Unique in this process.
    pub stream: u64,
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// The group whose snapshot it is served.
    pub group: String,
    /// Where it connects from, if known.
    pub peer: Option<SocketAddr>,
    /// User agent and version as `node` gives them, such as `envoy 1.40.0`.
    pub agent: String,
    /// State of the world or delta.
    pub flavour: Flavour,
    /// All types, or one.
    pub scope: Scope,
    /// `node.metadata`: its top-level strings, as far as they fit the limits. What operators select proxies by.
    pub labels: BTreeMap<String, String>,
    /// When the stream began.
    pub since: SystemTime,
}

#[cfg(test)]
impl Proxy {
    /// One of that id and group, for tests.
    pub(crate) fn named(id: &str, group: &str) -> Arc<Proxy> {
        Arc::new(Proxy {
            stream: 0,
            id: id.into(),
            cluster: group.into(),
            group: group.into(),
            peer: None,
            agent: String::new(),
            flavour: Flavour::Delta,
            scope: Scope::Aggregated,
            labels: BTreeMap::new(),
            since: SystemTime::UNIX_EPOCH,
        })
    }
}

/// A stream and what it holds at the moment of asking.
#[derive(Debug, Clone)]
pub struct Connected {
    /// Whose.
    pub proxy: Arc<Proxy>,
    /// Each type it ever asked for, in send order.
    pub types: BTreeMap<TypeUrl, TypeStatus>,
}

/// What happened on a stream.
#[derive(Debug, Clone)]
pub enum Event {
    /// A stream named its node.
    Connected(Arc<Proxy>),
    /// A stream ended.
    Disconnected(Arc<Proxy>),
    /// A client accepted or refused a response.
    Answered(Arc<Proxy>, Answer),
}

/// How far a group is on its way to a snapshot, in streams.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Streams that hold all of it, as far as they subscribe.
    pub arrived: usize,
    /// Streams that were not sent all of it yet, or have not answered.
    pub pending: Vec<Arc<Proxy>>,
    /// Streams that hold something older because they refused a response, by type.
    pub refused: Vec<(Arc<Proxy>, TypeUrl, TypeStatus)>,
}

impl Progress {
    /// Whether every stream arrived; true of a group nobody is connected in.
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty() && self.refused.is_empty()
    }
}

impl Registry {
    /// Nobody connected.
    pub fn new() -> Registry {
        Registry(Arc::new(Shared {
            streams: RwLock::default(),
            next: AtomicU64::new(1),
            events: broadcast::Sender::new(EVENTS_KEPT),
            revision: watch::Sender::new(0),
            counters: Counters::default(),
        }))
    }

    /// Everybody, in order of connection.
    pub fn list(&self) -> Vec<Connected> {
        let mut all: Vec<Connected> = self.entries(|_| true).iter().map(|entry| entry.connected()).collect();
        all.sort_by_key(|connected| connected.proxy.stream);
        all
    }

    /// Shows every stream of a group as it is now, unordered, without a copy. `look` holds up that stream's next
    /// report, so it must not wait.
    pub fn visit(&self, group: &str, mut look: impl FnMut(&Arc<Proxy>, &BTreeMap<TypeUrl, TypeStatus>)) {
        for entry in self.entries(|proxy| proxy.group == group) {
            look(&entry.proxy, &entry.types.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// How far the group's streams are. A stream counts for the types it subscribes to; a type's version is reached by
    /// an ACK, or by holding already what it subscribes to.
    pub fn progress(&self, group: &str, snapshot: &Snapshot) -> Progress {
        let mut progress = Progress::default();
        self.visit(group, |proxy, types| {
            let mut behind = types.iter().filter(|(type_url, status)| {
                status.is_subscribed() && status.acked.as_ref() != Some(snapshot.set(type_url).version())
            });
            match behind.clone().find(|(_, status)| status.rejected > 0) {
                Some((type_url, status)) => {
                    progress.refused.push((proxy.clone(), type_url.clone(), status.clone()));
                }
                None if behind.next().is_some() => progress.pending.push(proxy.clone()),
                None => progress.arrived += 1,
            }
        });
        progress
    }

    /// Whether every stream of the group holds this snapshot, as far as it subscribes. Wait for it with
    /// [`watch`](Self::watch).
    pub fn all_acked(&self, group: &str, snapshot: &Snapshot) -> bool {
        self.progress(group, snapshot).is_complete()
    }

    /// A number that grows whenever what a stream holds or answered may have changed: connect, disconnect, ACK, NACK,
    /// or a subscription that needed no response.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

    /// What happens from now on. A slow subscriber loses the oldest events, never holds up a stream.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// Totals since the start, for metrics.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Number of open streams.
    pub fn connected(&self) -> usize {
        self.0.streams.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Calls `look` with every `wanted` stream and its session, in order of connection, until it fails. Holds up that
    /// stream for as long as it looks, and no other.
    pub fn inspect<E>(
        &self,
        wanted: impl Fn(&Proxy) -> bool,
        mut look: impl FnMut(&Proxy, &Session) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut entries = self.entries(wanted);
        entries.sort_by_key(|entry| entry.proxy.stream);
        entries.iter().try_for_each(|entry| {
            let session = entry.session.lock().unwrap_or_else(PoisonError::into_inner);
            look(&entry.proxy, &session)
        })
    }

    /// Adds a stream, which stays until the result is dropped. `proxy.stream` is chosen here.
    pub(super) fn connect(&self, proxy: Proxy, session: SharedSession) -> Registration {
        let stream = self.0.next.fetch_add(1, Ordering::Relaxed);
        let proxy = Arc::new(Proxy { stream, ..proxy });
        let entry = Arc::new(Entry { proxy, types: Mutex::default(), session });
        self.0.streams.write().unwrap_or_else(PoisonError::into_inner).insert(stream, entry.clone());
        self.tell(Event::Connected(entry.proxy.clone()));
        Registration { registry: self.clone(), entry }
    }

    fn entries(&self, wanted: impl Fn(&Proxy) -> bool) -> Vec<Arc<Entry>> {
        let streams = self.0.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.values().filter(|entry| wanted(&entry.proxy)).cloned().collect()
    }

    fn tell(&self, event: Event) {
        // Nobody listening is no error.
        drop(self.0.events.send(event));
        self.changed();
    }

    fn changed(&self) {
        self.0.revision.send_modify(|revision| *revision += 1);
    }
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}

impl Entry {
    fn connected(&self) -> Connected {
        let types = self.types.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Connected { proxy: self.proxy.clone(), types }
    }
}

/// A connected stream's place in the registry.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Registry,
    entry: Arc<Entry>,
}

impl Registration {
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.entry.proxy
    }

    /// Reports a turn: what the session now holds, what was pushed, and what was answered.
    pub fn report(&self, session: &Session, pushed: impl Iterator<Item = TypeUrl>, answer: Option<Answer>) {
        let mut moved = false;
        {
            let mut types = self.entry.types.lock().unwrap_or_else(PoisonError::into_inner);
            for (type_url, status) in session.status() {
                match types.get_mut(type_url) {
                    Some(known) if known == status => {}
                    Some(known) => {
                        moved |= (&known.answered, &known.acked, known.is_subscribed())
                            != (&status.answered, &status.acked, status.is_subscribed());
                        *known = status.clone();
                    }
                    None => {
                        moved = true;
                        types.insert(type_url.clone(), status.clone());
                    }
                }
            }
        }
        let counters = self.registry.counters();
        pushed.for_each(|type_url| counters.push(&type_url));
        match answer {
            Some(answer) => {
                counters.answer(&answer);
                self.registry.tell(Event::Answered(self.entry.proxy.clone(), answer));
            }
            None if moved => self.registry.changed(),
            None => {}
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let streams = &self.registry.0.streams;
        streams.write().unwrap_or_else(PoisonError::into_inner).remove(&self.entry.proxy.stream);
        self.registry.tell(Event::Disconnected(self.entry.proxy.clone()));
    }
}

#[cfg(test)]
mod tests;
