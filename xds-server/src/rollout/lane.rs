//! One way to a new configuration for some proxies of a group: publishes a step of the plan, and tells what comes of it.
//!
//! Most groups have one lane, for all their proxies; one with canaries has two while a change is on trial. What is
//! done about a refusal, and when a change is on trial, is the [`group`](super::group)'s.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::plan::{Plan, Stage};
use super::refusal::Refusal;
use super::{Context, Desired};
use crate::discovery::cache::{Canary, Selector};
use crate::discovery::registry::Proxy;
use crate::discovery::session::TypeStatus;
use crate::gateway::{Gateway, ReferencedFiles};
use crate::snapshot::{ResourceSet, Snapshot, SnapshotBuilder, TypeUrl};
use crate::source::key_url::{self, KeyUrls};
use crate::translate::{KeySets, Target, translate};

/// A cluster is ready a little after it was accepted: Envoy's main thread accepts, once the cluster is warm, and its
/// workers learn of it next.
const WORKERS: Duration = Duration::from_millis(20);

/// Time for issuers to give their keys before a step goes on without them. At the start, Envoys that come back hold
/// keys that work: better nothing new than a configuration without keys.
pub(super) const KEYS: Duration = Duration::from_secs(5);

/// Types whose resources refer to others.
const REFERRING: [TypeUrl; 3] = [TypeUrl::LISTENER, TypeUrl::ROUTE, TypeUrl::VIRTUAL_HOST];

/// Snapshots remembered to know what a late refusal was about.
const RECENT: usize = 16;

/// A look at all streams takes time that grows with them, so there is a pause behind each, this many times as long.
const PAUSE: u32 = 4;
/// Looks that take less than this need none.
const SHORT_LOOK: Duration = Duration::from_micros(100);

/// Whom a lane is for.
#[derive(Clone)]
pub(super) enum Members {
    /// The group.
    All,
    /// All but these, who have a lane of their own.
    AllBut(Selector),
    /// These.
    Only(Selector),
}

impl Members {
    pub fn include(&self, proxy: &Proxy) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(selector) => !selector(proxy),
            Self::Only(selector) => selector(proxy),
        }
    }
}

pub(super) struct Lane {
    group: String,
    pub members: Members,
    pub plan: Plan<Desired>,
    pub published: Arc<Snapshot>,
    recent: VecDeque<Arc<Snapshot>>,
    /// When the change that is under way began.
    pub changed_at: Instant,
    /// Something was published, and nothing said yet of its arrival.
    untold: bool,
    /// Proxies were there when it was published, so that the time says how fast it was.
    was_awaited: bool,
    /// Since when somebody is waited for. Edits that follow each other don't begin anew.
    waiting_since: Option<Instant>,
    /// Streams that took too long, and are waited for no more until they have caught up.
    given_up: BTreeSet<u64>,
    /// Refusals that were told, by stream, type and time.
    heard: BTreeSet<(u64, TypeUrl, SystemTime)>,
    context: Context,
}

/// Where the lane's proxies are with the step that is out, in streams.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Have answered for all of it.
    pub arrived: usize,
    /// Of these, hold something older because they refused.
    pub refused: usize,
    /// Have not answered.
    pub behind: BTreeSet<u64>,
    /// Proxies of those, by id.
    pub waiting: BTreeSet<String>,
    /// All proxies, by id.
    pub proxies: BTreeSet<String>,
    /// What was refused since the last look.
    refusals: Vec<Refusal>,
    heard: BTreeSet<(u64, TypeUrl, SystemTime)>,
}

/// Why a lane's wait ended.
#[derive(Debug)]
pub(super) enum Happened {
    /// Every proxy has answered this step, or had time enough.
    StepDone,
    /// The last step is out and answered.
    Arrived,
    /// Proxies refused something.
    Refused(Vec<Refusal>),
}

impl Lane {
    /// The lane of a whole group, with nothing to move away from.
    pub fn new(group: &str, first: Arc<Desired>, context: Context) -> Self {
        Self {
            group: group.to_owned(),
            members: Members::All,
            changed_at: first.read_at,
            plan: Plan::new(first),
            published: Arc::default(),
            recent: VecDeque::new(),
            untold: false,
            was_awaited: false,
            waiting_since: None,
            given_up: BTreeSet::new(),
            heard: BTreeSet::new(),
            context,
        }
    }

    /// Another lane, starting where this one is.
    pub fn branch(&self) -> Self {
        Self {
            group: self.group.clone(),
            members: self.members.clone(),
            plan: self.plan.clone(),
            published: self.published.clone(),
            recent: self.recent.clone(),
            heard: self.heard.clone(),
            given_up: self.given_up.clone(),
            context: self.context.clone(),
            ..*self
        }
    }

    /// Publishes the plan's step, if it differs from what is out.
    pub fn publish(&mut self, key_urls: &KeyUrls) {
        let present = self.plan.present();
        let files = ReferencedFiles::merged(present.iter().map(|desired| &desired.files));
        let keys = KeySets { files, urls: key_urls.clone() };
        let present: Vec<&Gateway> = present.into_iter().map(|desired| &desired.gateway).collect();
        let resources = translate(
            &self.group,
            Target {
                serving: &self.plan.serving().gateway,
                present: &present,
                keys: &keys,
                modules: &self.context.modules.borrow().clone(),
                quota: &self.context.quota,
            },
        );
        let mut builder = SnapshotBuilder::replacing(&self.published);
        for resource in &resources {
            let (type_url, name, body) = (TypeUrl::new(&resource.type_url), &resource.name, &resource.body);
            match resource.ttl {
                Some(ttl) => builder.insert_expiring(&type_url, name, ttl, body),
                None => builder.insert(&type_url, name, body),
            };
        }
        let snapshot = Arc::new(builder.build());
        let differs = snapshot.version() != self.published.version();
        self.published = snapshot;
        if differs || !self.is_out() {
            self.hand_out();
        }
    }

    /// Gives the members what is published, also where the members changed.
    pub fn hand_out(&mut self) {
        let (cache, snapshot) = (&self.context.cache, Arc::clone(&self.published));
        tracing::debug!(group = self.group, stage = self.plan.stage().as_str(), snapshot = %snapshot.version(), "snapshot published");
        match &self.members {
            Members::All | Members::AllBut(_) => cache.set(&self.group, snapshot),
            Members::Only(selects) => {
                cache.set_canary(&self.group, Some(Canary { selects: Arc::clone(selects), snapshot }));
            }
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(&self.published));
        self.untold = true;
        self.was_awaited = !self.standing().behind.is_empty();
    }

    fn is_out(&self) -> bool {
        matches!(self.members, Members::Only(_)) || self.context.cache.get(&self.group).is_some()
    }

    /// The set that a version was of, if it was published lately.
    pub fn set_of(&self, type_url: &TypeUrl, version: &str) -> &Arc<ResourceSet> {
        let mut recent = self.recent.iter().rev().map(|snapshot| snapshot.set(type_url));
        recent.find(|set| **set.version() == *version).unwrap_or_else(|| self.published.set(type_url))
    }

    /// Ends with what happens next. `look` is shown every standing.
    pub async fn step(&mut self, keys: &KeyUrls, mut look: impl FnMut(&Self, &Standing)) -> Happened {
        let mut revision = self.context.registry.watch();
        let stage = self.plan.stage();
        if stage == Stage::Make && !self.has_keys(keys) {
            // One that comes begins this stage anew.
            tokio::time::sleep(KEYS).await;
        }
        loop {
            revision.borrow_and_update();
            let began = Instant::now();
            let mut standing = self.standing();
            look(self, &standing);
            let took = began.elapsed();
            self.heard = std::mem::take(&mut standing.heard);
            if !standing.refusals.is_empty() {
                return Happened::Refused(standing.refusals);
            }
            self.given_up.retain(|stream| standing.behind.contains(stream));
            if standing.behind.len() == self.given_up.len() {
                self.waiting_since = None;
                if stage != Stage::Settled {
                    // Nothing new is out where only routes were edited.
                    if stage == Stage::Make && self.untold {
                        tokio::time::sleep(WORKERS).await;
                    }
                    return Happened::StepDone;
                }
                if standing.arrived > 0 && self.untold {
                    self.untold = false;
                    return Happened::Arrived;
                }
            } else {
                self.waiting_since.get_or_insert_with(Instant::now);
            }
            let deadline = self.waiting_since.map(|since| since + self.context.deadline);
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let (group, stage, pending) = (&self.group, stage.as_str(), &standing.waiting);
                tracing::warn!(
                    group,
                    stage,
                    ?pending,
                    "proxies did not accept a change in time; going on without them"
                );
                self.given_up.extend(standing.behind);
                continue;
            }
            let overdue = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = revision.changed() => if changed.is_err() { return std::future::pending().await },
                () = overdue => {}
            }
            if took > SHORT_LOOK {
                tokio::time::sleep(took * PAUSE).await;
            }
        }
    }

    /// Whether the keys of every issuer that the target names were fetched.
    pub fn has_keys(&self, keys: &KeyUrls) -> bool {
        key_url::urls(&self.plan.target().gateway).keys().all(|url| keys.contains_key(url))
    }

    /// How long the change took, where proxies were there to take it.
    pub fn took(&self) -> Option<Duration> {
        self.was_awaited.then(|| self.changed_at.elapsed())
    }

    /// Where the proxies are with what the next stage needs: all of the snapshot, or, while making, what listeners and
    /// routes refer to. A proxy that refused old routes must still get new ones.
    pub fn standing(&self) -> Standing {
        let making = self.plan.stage() == Stage::Make;
        let assignments = self.published.set(&TypeUrl::ENDPOINT).len();
        let mut standing = Standing::default();
        self.context.registry.visit(&self.group, |proxy, types| {
            if !self.members.include(proxy) {
                return;
            }
            // A cluster whose endpoints are still to be asked for is not ready.
            let has_clusters = types.get(&TypeUrl::CLUSTER).is_some_and(|status| status.wildcard);
            let asked = types.get(&TypeUrl::ENDPOINT).map_or(0, |status| status.names);
            let (mut behind, mut refused) = (has_clusters && asked < assignments, false);
            for (type_url, status) in types.iter().filter(|(_, status)| status.is_subscribed()) {
                self.hear(proxy, type_url, status, &mut standing);
                refused |= status.rejected > 0;
                if !(making && REFERRING.contains(type_url)) {
                    behind |= status.answered.as_ref() != Some(self.published.set(type_url).version());
                }
            }
            standing.proxies.insert(proxy.id.clone());
            match behind {
                true => {
                    standing.behind.insert(proxy.stream);
                    standing.waiting.insert(proxy.id.clone());
                }
                false => standing.arrived += 1,
            }
            standing.refused += usize::from(refused);
        });
        standing
    }

    fn hear(&self, proxy: &Proxy, type_url: &TypeUrl, status: &TypeStatus, standing: &mut Standing) {
        let Some(nack) = status.nack.as_ref().filter(|_| status.rejected > 0) else { return };
        let key = (proxy.stream, type_url.clone(), nack.at);
        if !self.heard.contains(&key) {
            standing.refusals.push(Refusal {
                node: proxy.id.clone(),
                type_url: type_url.clone(),
                version: nack.version.to_string(),
                message: nack.message.clone(),
            });
        }
        standing.heard.insert(key);
    }
}
