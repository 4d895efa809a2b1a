//! Desired state from etcd: every key under a prefix is a document, and a transaction is a change.
//!
//! [`Etcd::open`] reads all keys at one revision; [`Etcd::run`] watches from the next one on. Each transaction makes
//! another [`State`]; those that nobody has looked at yet are remembered in order, so that a good one counts though the
//! next is bad: every replica ends at the same one, however fast it is.
//!
//! A replica never goes back. Reads are linearizable, so that a member that lags can't answer them; an etcd whose revision
//! is lower than one seen before was restored from a backup, and is told of and not followed. The last good state is kept on
//! disk ([`kept`]) for a start while etcd is away.
//!
//! Not here: what the documents mean and whether they are right (`follow`), and writing them ([`push`]).

mod connection;
mod fence;
mod kept;
pub mod push;
pub mod state;
mod watching;
mod wire;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use connection::Connection;
pub use connection::EtcdError;
use kept::Kept;
pub use state::State;

use crate::settings::etcd::Etcd as Settings;
use crate::status::{lock, unix_seconds};

/// Time between two attempts, doubled from the one to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// States that nobody has looked at, at most; the oldest is forgotten.
const MAX_WAITING: usize = 256;
/// Time for looking one state up in etcd's history.
const HISTORY: Duration = Duration::from_secs(5);

/// A gateway in etcd. Clones are the same.
#[derive(Clone)]
pub struct Etcd {
    settings: Arc<Settings>,
    kept: Arc<Kept>,
    shared: Arc<Shared>,
}

struct Shared {
    read: Mutex<Read>,
    changed: Notify,
    status: Mutex<EtcdStatus>,
    fence: fence::Fence,
}

/// What was read.
struct Read {
    newest: Arc<State>,
    /// Older ones that nobody has looked at, the newest last.
    before: VecDeque<Arc<State>>,
    /// Whether changes before these were not seen, since all was read anew.
    is_anew: bool,
    /// No change under the prefix up to here but those above.
    seen: i64,
}

/// How it stands with etcd.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EtcdStatus {
    /// Whether changes are heard of.
    pub connected: bool,
    /// Revision of the last change that was heard of, good or bad.
    pub revision: i64,
    /// Why changes are not heard of.
    pub error: Option<String>,
    /// Since when it is so, in seconds since 1970.
    pub since: u64,
}

impl Etcd {
    /// Reads all keys now; or what was kept in `state_dir`, if etcd can't be asked in time, or holds an older state.
    ///
    /// # Errors
    /// When etcd can't be asked, and nothing was kept.
    pub async fn open(settings: &Settings, state_dir: &Path) -> Result<Self, EtcdError> {
        let kept = Kept::open(state_dir, &settings.etcd_prefix);
        let fence = fence::Fence::default();
        let read = read_within(settings, settings.etcd_start_timeout).await.map(|(connection, state)| {
            fence.session(Some(connection));
            state
        });
        let (state, error) = match (read, kept.state()) {
            (Ok(state), Some(kept_state)) if state.revision < kept_state.revision => {
                (Arc::clone(kept_state), Some(kept.older(state.revision, kept_state.revision)))
            }
            (Ok(state), _) => (Arc::new(state), None),
            (Err(error), Some(kept_state)) => (Arc::clone(kept_state), Some(error)),
            (Err(error), None) => return Err(error),
        };
        if let Some(error) = &error {
            tracing::warn!(%error, revision = state.revision, "serving what was kept of etcd");
        }
        Ok(Self::beginning(settings, kept, state, error.as_ref(), fence))
    }

    fn beginning(
        settings: &Settings,
        kept: Kept,
        state: Arc<State>,
        error: Option<&EtcdError>,
        fence: fence::Fence,
    ) -> Self {
        let status = EtcdStatus {
            connected: error.is_none(),
            revision: state.revision,
            error: error.map(ToString::to_string),
            since: unix_seconds(SystemTime::now()),
        };
        let seen = state.revision;
        let read = Read { newest: state, before: VecDeque::new(), is_anew: error.is_none(), seen };
        let shared =
            Shared { read: Mutex::new(read), changed: Notify::new(), status: Mutex::new(status), fence };
        Self { settings: Arc::new(settings.clone()), kept: Arc::new(kept), shared: Arc::new(shared) }
    }

    /// Where it is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How it stands.
    pub fn status(&self) -> EtcdStatus {
        lock(&self.shared.status).clone()
    }

    /// What etcd holds, as far as it was heard of.
    pub fn newest(&self) -> Arc<State> {
        Arc::clone(&lock(&self.shared.read).newest)
    }

    /// The state before `state`, if it is newer than `floor`: one that nobody has looked at, or one of etcd's history
    /// where that was not watched. A change that only deleted, between two others, may be passed over there.
    pub async fn before(&self, state: &State, floor: i64) -> Option<Arc<State>> {
        let is_anew = {
            let read = lock(&self.shared.read);
            let waiting = read.before.iter().rev().find(|before| before.revision < state.revision);
            if let Some(waiting) = waiting.filter(|waiting| waiting.revision > floor) {
                return Some(Arc::clone(waiting));
            }
            read.is_anew
        };
        if !is_anew {
            return None;
        }
        let history = tokio::time::timeout(HISTORY, async {
            let connection = self.connect().await?;
            let mut at = state.revision;
            loop {
                let written = state.written();
                at = if written < at { written } else { at - 1 };
                if at <= floor.max(0) {
                    return Ok(None);
                }
                let before = connection.read(Some(at)).await?;
                if before.documents != state.documents {
                    return Ok(Some(Arc::new(before)));
                }
            }
        });
        match history.await {
            Ok(Ok(before)) => before,
            // Compacted, mostly: there is no history any more.
            Ok(Err(EtcdError::Compacted)) | Err(_) => None,
            Ok(Err(error)) => {
                tracing::warn!(%error, "can't look up what etcd held before");
                None
            }
        }
    }

    /// What was kept when this server started.
    pub fn kept(&self) -> Option<Arc<State>> {
        self.kept.state().cloned()
    }

    /// This one, and so all before it, was judged, and what is right of it is on its way to the proxies.
    pub fn judged(&self, state: &State) {
        {
            let mut read = lock(&self.shared.read);
            read.before.retain(|before| before.revision > state.revision);
            if read.newest.revision <= state.revision {
                read.is_anew = false;
            }
        }
        self.shared.fence.judged(state.revision);
    }

    /// Keeps a state that is served. Blocks.
    pub fn keep(&self, state: &State) {
        self.kept.put(state);
    }

    /// Waits until there is a state that nobody has looked at. Cancel-safe.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// A connection to any of the endpoints.
    async fn connect(&self) -> Result<Connection, EtcdError> {
        let mut last = None;
        for number in 0..self.settings.etcd_endpoints.len() {
            match Connection::open(&self.settings, number).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| EtcdError::Refused("there is no endpoint".into())))
    }
}

/// Asks one endpoint after the other, and says which answered.
async fn read_within(settings: &Settings, time: Duration) -> Result<(Connection, State), EtcdError> {
    let deadline = Instant::now() + time;
    for number in 0.. {
        let read = async {
            let connection = Connection::open(settings, number).await?;
            let state = connection.read(None).await?;
            Ok((connection, state))
        };
        match read.await {
            Ok(read) => return Ok(read),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(error) => tracing::debug!(%error, "etcd can't be asked yet"),
        }
        sleep(FIRST_PAUSE.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
    Err(EtcdError::Refused("there is no endpoint".into()))
}
