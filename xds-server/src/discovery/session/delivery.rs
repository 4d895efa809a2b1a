//! One type on one stream: what the client holds, what it is owed, and the response it has yet to answer.
//!
//! What the client holds is not a map of versions but a pointer to the set it was last brought to (`base`) together
//! with the names that are owed beyond it, so an idle client costs a few words however many resources it has. `owed`
//! holds names only: whether a name is sent or announced as removed is decided when the response is made, so any number
//! of changes in between coalesce into the last.
//!
//! Not here: the order among types, which is the session's.

mod heartbeat;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::response::{Payload, Response};
use super::status::{Nack, TypeStatus};
use super::subscription::{Change, Subscription};
use super::{Answer, Flavour, Standing};
use crate::snapshot::{Changes, Resource, ResourceSet, TypeUrl};

/// Kept of a client's error message, in bytes: it may be as long as a request.
const MESSAGE_LIMIT: usize = 4096;

#[derive(Debug)]
pub(super) struct Delivery {
    type_url: TypeUrl,
    flavour: Flavour,
    pub wanted: Subscription,
    /// What the client said it holds from an earlier stream, until the first look at a set.
    claimed: Claim,
    resumed: bool,
    base: Option<Arc<ResourceSet>>,
    owed: BTreeSet<Arc<str>>,
    /// Names that are answered without a resource of that name: hosts that nobody has, or that another name stands for.
    told: BTreeSet<Arc<str>>,
    /// Everything wanted is owed: a wildcard began, or a subscription by name whose client holds nothing.
    all_owed: bool,
    /// A response is owed even when there is nothing to put into it.
    greeting_owed: bool,
    /// Names of responses that were NACKed and not replaced since: the client holds something older there.
    rejected: BTreeSet<Arc<str>>,
    outstanding: Option<Response>,
    /// When the last heartbeat was sent, or what it would be about was first seen.
    last_heartbeat: Option<Instant>,
    nonce: u64,
    pub status: TypeStatus,
}

/// What a reconnecting client says it already has.
#[derive(Debug)]
pub(super) enum Claim {
    /// Delta: `initial_resource_versions`.
    Versions(HashMap<String, String>),
    /// State of the world: `version_info`; empty for none.
    Set(String),
}

impl Claim {
    /// Takes back what the client drops before anything was weighed against its claim.
    fn retain(&mut self, wanted: &Subscription) {
        match self {
            Claim::Versions(versions) => versions.retain(|name, _| wanted.wants(name)),
            Claim::Set(version) if !wanted.is_wildcard() => version.clear(),
            Claim::Set(_) => {}
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Claim::Versions(versions) => versions.is_empty(),
            Claim::Set(version) => version.is_empty(),
        }
    }
}

/// A response and, for clusters, which of its resources the client will warm anew.
pub(super) struct Made {
    pub response: Response,
    pub changes: Warming,
}

/// The resources of a response that differ from what its client had.
pub(super) enum Warming {
    /// Those of the payload.
    Payload,
    /// These of a payload that repeats the rest.
    Changed(Arc<Changes>),
}

impl Delivery {
    pub fn new(type_url: TypeUrl, flavour: Flavour, claimed: Claim) -> Delivery {
        Delivery {
            type_url,
            flavour,
            wanted: Subscription::default(),
            resumed: !claimed.is_empty(),
            claimed,
            base: None,
            owed: BTreeSet::new(),
            told: BTreeSet::new(),
            all_owed: false,
            greeting_owed: false,
            rejected: BTreeSet::new(),
            outstanding: None,
            last_heartbeat: None,
            nonce: 0,
            status: TypeStatus::default(),
        }
    }

    /// Whether the client came with state of an earlier stream.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Whether the next response is the first, to a client that came with state.
    pub fn is_resuming(&self) -> bool {
        self.resumed && self.base.is_none()
    }

    /// About the memory that names take, in bytes.
    pub fn bytes(&self) -> usize {
        self.wanted.bytes() + self.told.iter().map(|name| name.len()).sum::<usize>()
    }

    /// Shows what is subscribed to.
    pub fn count_names(&mut self) {
        self.status.wildcard = self.wanted.is_wildcard();
        self.status.names = self.wanted.names().len();
    }

    /// Subscribes to a name on the client's behalf, and owes it.
    pub fn ask(&mut self, name: &str) -> Arc<str> {
        let name = self.wanted.subscribe(name);
        if self.base.is_some() {
            self.owed.insert(name.clone());
            // It may be gone before it is sent.
            self.told.insert(name.clone());
        }
        name
    }

    /// Answers a name that has no resource.
    pub fn tell(&mut self, name: &str) {
        self.told.insert(name.into());
    }

    /// Whether a response has yet to be answered.
    pub fn is_unanswered(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Whether a response that brings something has yet to be answered.
    pub fn is_warming(&self) -> bool {
        self.outstanding.as_ref().is_some_and(|response| !response.payload.is_empty())
    }

    /// Whether the client waits for something that it does not hold: what it asked for on this stream, or, when it came
    /// with state, what that did not name.
    pub fn is_asked(&self) -> bool {
        if self.base.is_some() {
            return self.all_owed || self.greeting_owed || !self.owed.is_empty();
        }
        match &self.claimed {
            Claim::Versions(held) => !self.wanted.names().iter().all(|name| held.contains_key(&**name)),
            Claim::Set(_) => !self.resumed,
        }
    }

    /// The set the client was last brought to.
    pub fn base(&self) -> Option<&Arc<ResourceSet>> {
        self.base.as_ref()
    }

    /// Takes a request's nonce: `None` if it answers nothing, being empty, stale or already answered.
    pub fn answer(&mut self, nonce: &str, error: Option<String>, now: SystemTime) -> Option<Answer> {
        let response = self.outstanding.take_if(|response| &*response.nonce == nonce)?;
        if response.heartbeat {
            self.answer_heartbeat(&response, error.is_some());
            return None;
        }
        let version = response.version.clone();
        let Some(mut message) = error else {
            match self.sends_full_state() {
                true => self.rejected.clear(),
                // Nearly always nothing was, and a response may be long.
                false if self.rejected.is_empty() => {}
                false => {
                    for resource in response.payload.iter() {
                        self.rejected.remove(resource.name());
                    }
                    for name in &response.removed {
                        self.rejected.remove(name);
                    }
                }
            }
            self.settle();
            return Some(Answer::Ack { type_url: self.type_url.clone(), version });
        };
        let names = response.payload.iter().map(|resource| resource.name()).chain(&response.removed);
        self.rejected.extend(names.filter(|name| self.wanted.wants(name)).cloned());
        message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
        self.status.nack = Some(Nack { version: version.clone(), message: message.clone(), at: now });
        self.settle();
        Some(Answer::Nack { type_url: self.type_url.clone(), version, message })
    }

    /// Follows a changed subscription. `first` is the type's first request on the stream: what it asks for is weighed
    /// against what the client claims to hold when a set is first looked at.
    pub fn resubscribe(&mut self, change: Change, first: bool) {
        let Change { asked, dropped, wildcard_on, wildcard_off } = change;
        if wildcard_off || !dropped.is_empty() {
            self.claimed.retain(&self.wanted);
        }
        let mut culprit_left = false;
        for name in dropped {
            if !self.wanted.is_wildcard() {
                culprit_left |= self.rejected.remove(&name);
                self.owed.remove(&name);
            } else if self.flavour == Flavour::Delta {
                // The client cannot tell whether the wildcard covers the name it dropped, so it is told.
                self.owed.insert(name);
            }
        }
        if wildcard_off {
            (self.all_owed, self.greeting_owed) = (false, false);
            let (names, before) = (self.wanted.names(), self.rejected.len());
            self.owed.retain(|name| names.contains(name));
            self.rejected.retain(|name| names.contains(name));
            culprit_left |= self.rejected.len() < before;
        }
        if culprit_left {
            // What was refused together with it may pass now.
            self.owed.extend(self.rejected.iter().cloned());
        }
        if wildcard_on {
            self.greeting_owed = !(first && self.resumed);
            self.all_owed = self.base.is_some();
        }
        if !first {
            self.owed.extend(asked);
        }
    }

    /// Owes a name again although it did not change, if the client wants it.
    pub fn owe(&mut self, name: &Arc<str>) {
        if self.wanted.wants(name) {
            self.owed.insert(name.clone());
        }
    }

    /// Whether the client has yet to be brought to `set`.
    pub fn is_behind(&self, set: &ResourceSet) -> bool {
        self.base.as_ref().is_none_or(|base| !base.is_same(set))
    }

    /// Whether a response is unanswered while more is to be sent from `set`, other than removals.
    pub fn is_blocked(&self, set: &ResourceSet) -> bool {
        self.outstanding.is_some()
            && (self.is_behind(set) || self.all_owed || self.owed.iter().any(|name| set.get(name).is_some()))
    }

    /// Whether the client was brought to `set`, whole, and has accepted it. Whoever refused serves something older,
    /// and what that refers to must stay.
    pub fn is_idle(&self, set: &ResourceSet) -> bool {
        let there = self.base.as_ref().is_some_and(|base| base.is_same(set));
        there && self.owes_nothing() && self.rejected.is_empty()
    }

    fn owes_nothing(&self) -> bool {
        self.outstanding.is_none() && self.owed.is_empty() && !self.all_owed
    }

    /// Where the client is with a name that it wants, `current` being what it is to have of it.
    pub fn standing(&self, name: &str, current: Option<&Arc<Resource>>) -> Standing {
        let Some(current) = current else { return Standing::NotSent };
        let base = self.base.as_ref().and_then(|base| base.get(name));
        let is_brought = base.is_some_and(|base| base.version() == current.version());
        if !is_brought || self.all_owed || self.owed.contains(name) {
            Standing::NotSent
        } else if (self.outstanding.as_ref())
            .is_some_and(|it| !it.heartbeat && it.payload.get(name).is_some())
        {
            // Also where another was refused before: this one may be accepted.
            Standing::Stale
        } else if self.rejected.contains(name) {
            Standing::Refused
        } else {
            Standing::Synced
        }
    }

    /// Makes the response that brings the client to `set`, if there is anything to say and nothing unanswered.
    /// `removals` may be withheld until nothing refers to what is removed; they stay owed.
    pub fn next(&mut self, set: &Arc<ResourceSet>, removals: bool) -> Option<Made> {
        if self.outstanding.is_some() {
            return None;
        }
        let resuming = self.is_resuming();
        let changes = self.look(set);
        // Removals are to wait for an answer, so there has to be one.
        self.greeting_owed |= resuming && !removals && self.owed.iter().any(|name| set.get(name).is_none());
        if self.all_owed || !self.rejected.is_disjoint(&self.owed) {
            // A response is refused whole: what shared it with the culprit goes out again with the culprit's successor.
            self.owed.extend(self.rejected.iter().cloned());
            // Once: a removal that stays owed is no reason to send the others again at every turn.
            self.rejected.retain(|name| removals || set.get(name).is_some());
        }
        let resent = !self.rejected.is_empty();
        let (payload, removed) = match self.flavour {
            Flavour::Delta => self.take_delta(set, removals, changes.as_ref()),
            Flavour::StateOfTheWorld => (self.take_sotw(set), Vec::new()),
        };
        let Some(payload) = payload else {
            self.settle();
            return None;
        };
        self.greeting_owed = false;
        let response = self.respond(set, payload, removed);
        let changes = match changes {
            Some(changes) if self.sends_full_state() && !resent => Warming::Changed(changes),
            _ => Warming::Payload,
        };
        Some(Made { response, changes })
    }

    /// Turns the step from `base` to `set` into owed names. Returns the changes where there was a step.
    fn look(&mut self, set: &Arc<ResourceSet>) -> Option<Arc<Changes>> {
        let Some(base) = self.base.replace(set.clone()) else {
            self.first_look(set);
            return None;
        };
        let changes = set.changes_since(&base);
        if self.all_owed {
            // The changed ones come with all others.
            self.owed
                .extend(changes.removed.iter().filter(|name| self.wanted.names().contains(*name)).cloned());
        } else if !self.shares(&changes) {
            let names = changes.changed.iter().map(|resource| resource.name()).chain(&changes.removed);
            self.owed.extend(names.filter(|name| self.wanted.wants(name)).cloned());
        }
        Some(changes)
    }

    /// Whether these changes are the whole response: a client of the wildcard that is owed nothing else.
    fn shares(&self, changes: &Changes) -> bool {
        self.flavour == Flavour::Delta
            && self.wanted.is_wildcard()
            && self.owed.is_empty()
            && self.rejected.is_empty()
            && changes.removed.is_empty()
    }

    fn first_look(&mut self, set: &Arc<ResourceSet>) {
        let claimed = std::mem::replace(&mut self.claimed, Claim::Set(String::new()));
        let wildcard = self.wanted.is_wildcard();
        match claimed {
            Claim::Versions(versions) => {
                // What expires may do so before its first heartbeat, so it is sent anew.
                let expires = |name: &str| set.get(name).is_some_and(|resource| resource.ttl().is_some());
                let holds = |name: &str, version: &str| {
                    versions.get(name).is_some_and(|held| held == version) && !expires(name)
                };
                if versions.is_empty() {
                    self.all_owed = wildcard || !self.wanted.names().is_empty();
                    if wildcard {
                        // All that there is comes anyway; by name, the whole subscription is looked up then.
                        let unknown = self.wanted.names().iter().filter(|name| set.get(name).is_none());
                        self.owed.extend(unknown.cloned());
                    }
                    return;
                }
                if wildcard {
                    let differs = set.iter().filter(|resource| !holds(resource.name(), resource.version()));
                    self.owed.extend(differs.map(|resource| resource.name().clone()));
                    let gone = versions.keys().filter(|name| set.get(name).is_none());
                    self.owed.extend(gone.map(|name| Arc::from(name.as_str())));
                }
                let names = self.wanted.names().iter();
                let differs = names.filter(|name| set.get(name).is_none_or(|r| !holds(name, r.version())));
                self.owed.extend(differs.cloned());
            }
            // Which names an explicit subscription had at that version is not known, and what else a response left out,
            // so only a wildcard of a type that is always sent whole resumes.
            Claim::Set(version) => {
                let resumes = self.type_url.is_full_state() && *version == **set.version();
                if wildcard && !(resumes && set.expiring().is_empty()) {
                    (self.all_owed, self.greeting_owed) = (true, true);
                }
                if !wildcard {
                    self.all_owed = !self.wanted.names().is_empty();
                }
            }
        }
    }

    fn take_delta(
        &mut self,
        set: &Arc<ResourceSet>,
        removals: bool,
        changes: Option<&Arc<Changes>>,
    ) -> (Option<Payload>, Vec<Arc<str>>) {
        let mut owed = std::mem::take(&mut self.owed);
        let mut listed = Vec::new();
        let mut removed = Vec::new();
        let all = std::mem::take(&mut self.all_owed);
        let selection = (all && !self.wanted.is_wildcard()).then(|| set.select_all(self.wanted.names()));
        if let Some(selection) = &selection {
            // Whatever else was owed is of it.
            owed = selection.missing.iter().cloned().collect();
        }
        for name in owed {
            match set.get(&name) {
                Some(resource) => listed.push(resource.clone()),
                None if removals => removed.push(name),
                None => drop(self.owed.insert(name)),
            }
        }
        let payload = match (changes, selection) {
            (_, Some(selection)) => Payload::Listed(selection.found.clone()),
            _ if all => Payload::All(set.clone()),
            // Nothing was owed then, so `look` left the changes to be sent as they are.
            (Some(changes), None) if listed.is_empty() && removed.is_empty() && self.shares(changes) => {
                Payload::Changed(changes.clone())
            }
            _ => Payload::Listed(listed.into()),
        };
        let silent = payload.is_empty() && removed.is_empty() && !self.greeting_owed && self.told.is_empty();
        ((!silent).then_some(payload), removed)
    }

    fn take_sotw(&mut self, set: &Arc<ResourceSet>) -> Option<Payload> {
        let owed = std::mem::take(&mut self.owed);
        let all = std::mem::take(&mut self.all_owed);
        let wildcard = self.wanted.is_wildcard();
        if self.sends_full_state() {
            // Absence is the message here, so an unknown name is answered too.
            let due = all || self.greeting_owed || !owed.is_empty();
            return due.then(|| match wildcard {
                true => Payload::All(set.clone()),
                false => Payload::Listed(set.select_all(self.wanted.names()).found.clone()),
            });
        }
        // Absence cannot be told in this type: those names stop being anyone's refusal.
        self.rejected.retain(|name| set.get(name).is_some());
        let listed = match (all, wildcard) {
            (true, true) => return Some(Payload::All(set.clone())),
            (true, false) => set.select_all(self.wanted.names()).found.clone(),
            (false, _) => owed.iter().filter_map(|name| set.get(name).cloned()).collect(),
        };
        (self.greeting_owed || !listed.is_empty()).then_some(Payload::Listed(listed))
    }

    fn respond(&mut self, set: &ResourceSet, payload: Payload, removed: Vec<Arc<str>>) -> Response {
        self.nonce += 1;
        let nonce: Arc<str> = self.nonce.to_string().into();
        let (type_url, version) = (self.type_url.clone(), set.version().clone());
        self.status.sent = Some((version.clone(), nonce.clone()));
        let (flavour, whole) = (self.flavour, self.wanted.is_wildcard());
        let told = self.take_told(&payload, &removed);
        let response =
            Response { type_url, version, nonce, payload, removed, told, heartbeat: false, flavour, whole };
        self.outstanding = Some(response.clone());
        response
    }

    /// What is told in a response: a name may stand there once. With a resource of its own it is answered; one that is
    /// removed has to wait for the next response.
    fn take_told(&mut self, payload: &Payload, removed: &[Arc<str>]) -> Vec<Arc<str>> {
        if self.told.is_empty() {
            return Vec::new();
        }
        for resource in payload.iter() {
            self.told.remove(resource.name());
        }
        let later = removed.iter().filter(|name| self.told.contains(*name)).cloned().collect();
        let told = std::mem::replace(&mut self.told, later);
        told.into_iter().filter(|name| !self.told.contains(name)).collect()
    }

    /// Records that the client has answered for all of `base`, and whether it holds it, if so.
    fn settle(&mut self) {
        self.status.rejected = self.rejected.len();
        if let (true, Some(base)) = (self.owes_nothing(), &self.base) {
            self.status.answered = Some(base.version().clone());
            if self.rejected.is_empty() {
                self.status.acked = Some(base.version().clone());
            }
        }
    }

    fn sends_full_state(&self) -> bool {
        self.flavour == Flavour::StateOfTheWorld && self.type_url.is_full_state()
    }
}
