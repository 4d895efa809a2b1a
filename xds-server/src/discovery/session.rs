//! The protocol of one stream as a pure state machine: requests and snapshots in, responses out.
//!
//! One engine serves state of the world and delta, the aggregated stream and the streams of a single type. Per type a
//! `delivery` keeps what the client holds and is owed; this module puts the types in order. At most one response of a
//! type is unanswered at a time; what changes meanwhile coalesces.
//!
//! Order on an aggregated stream (make before break; xDS protocol, "Eventual consistency considerations"):
//!
//! - additions and changes go out as clusters, endpoints, secrets, extensions, listeners, routes, virtual hosts;
//! - while one of these waits for an answer and has more to send, the types behind it stay at the snapshot they are at,
//!   so that no route arrives before its cluster. New subscriptions are answered nevertheless, from that snapshot;
//! - an extension configuration that the client holds changes only once clusters are answered, which Envoy does when they
//!   are warm: it takes effect at once, so what it calls and the code it runs must be there;
//! - delta removals of clusters, then of endpoints, wait until everything else was sent and answered. A client that
//!   resumes is first sent a response without them, be it empty, since its listeners and routes have yet to ask.
//!
//! What has a time to live is kept alive by heartbeats, when the caller says that it is time.
//!
//! Virtual hosts are asked for by host; which of them answers is looked up before all this (`hosts`).
//!
//! Deliberately not here: clocks, tasks, sockets, and which group a node belongs to.

mod delivery;
mod hosts;
mod response;
mod standing;
mod status;
mod subscription;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use crate::snapshot::{Resource, ResourceSet, Snapshot, TypeUrl};
use delivery::{Claim, Delivery, Made, Warming};
use hosts::Hosts;
pub use response::{Cursor, Payload, Response};
pub use standing::{Held, Standing};
pub use status::{Answer, Nack, TypeStatus};

/// How much is sent: everything subscribed to, or differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `Stream…`: each request lists all names, LDS and CDS responses all resources.
    StateOfTheWorld,
    /// `Delta…`: requests and responses list differences.
    Delta,
}

/// What a stream may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every type, in order (ADS).
    Aggregated,
    /// One type; requests may leave the type URL out.
    Only(TypeUrl),
}

/// A request of either flavour.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// State of the world.
    StateOfTheWorld(DiscoveryRequest),
    /// Delta.
    Delta(DeltaDiscoveryRequest),
}

/// What one client may make the session remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Types subscribed to on one stream.
    pub types: usize,
    /// Bytes of subscribed names, all types together.
    pub subscription_bytes: usize,
    /// Hosts whose virtual hosts one client holds (VHDS), and as many that nobody has. A proxy asks for whatever host its
    /// clients name, and keeps what it is given.
    pub hosts: usize,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits { types: 64, subscription_bytes: 64 << 20, hosts: 10_000 }
    }
}

/// What a request led to.
#[derive(Debug, Default)]
pub struct Turn {
    /// To be sent, in this order.
    pub responses: Vec<Response>,
    /// What the request said about an earlier response, if it was still unanswered.
    pub answer: Option<Answer>,
}

/// A request that ends the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An aggregated stream's request must name its type.
    #[error("type_url is missing")]
    NoType,
    /// The stream serves another type.
    #[error("this stream serves {expected}, not {found}")]
    WrongType {
        /// What the stream serves.
        expected: String,
        /// What the request named.
        found: String,
    },
    /// The request is of the other flavour than the stream.
    #[error("the request is not of the stream's flavour")]
    WrongFlavour,
    /// More types than one stream may subscribe to.
    #[error("more than {0} types on one stream")]
    TooManyTypes(usize),
    /// More names than one stream may subscribe to.
    #[error("subscribed names take more than {0} bytes")]
    TooManyNames(usize),
}

/// One stream's state.
#[derive(Debug)]
pub struct Session {
    flavour: Flavour,
    scope: Scope,
    limits: SessionLimits,
    snapshot: Option<Arc<Snapshot>>,
    /// Boxed, as a map's node has room for eleven, and clients subscribe to a few types.
    types: BTreeMap<TypeUrl, Box<Delivery>>,
    hosts: Hosts,
    /// Assignments of clusters sent before the client, resuming, subscribed to endpoints.
    warming: HashSet<Arc<str>>,
}

impl Session {
    /// A stream on which nothing was said yet.
    pub fn new(flavour: Flavour, scope: Scope, limits: SessionLimits) -> Session {
        Session {
            flavour,
            scope,
            limits,
            snapshot: None,
            types: BTreeMap::new(),
            hosts: Hosts::default(),
            warming: HashSet::new(),
        }
    }

    /// Takes a request: subscription changes always count; an ACK or NACK does if its nonce is that of the type's
    /// unanswered response. `now` dates a NACK.
    pub fn on_request(&mut self, request: Request, now: SystemTime) -> Result<Turn, Refusal> {
        let request = Asked::new(request, self.flavour)?;
        let type_url = self.admit(&request.type_url)?;
        let legacy = type_url.is_full_state();
        let known =
            self.snapshot.as_ref().map(|snapshot| snapshot.set(&type_url).clone()).unwrap_or_default();

        let first = !self.types.contains_key(&type_url);
        let delivery = (self.types.entry(type_url.clone()))
            .or_insert_with(|| Box::new(Delivery::new(type_url.clone(), self.flavour, request.claim)));
        let answer = delivery.answer(&request.nonce, request.error, now);
        let change = match request.names {
            Names::All(listed) => delivery.wanted.replace(listed, legacy, first, &known),
            Names::Changed { mut subscribe, mut unsubscribe } => {
                if type_url == TypeUrl::VIRTUAL_HOST {
                    self.hosts.take(&mut subscribe);
                    Hosts::rename(&mut unsubscribe);
                    if !unsubscribe.is_empty() {
                        self.hosts.forget();
                    }
                }
                delivery.wanted.update(subscribe, unsubscribe, legacy, first, &known)
            }
        };
        delivery.resubscribe(change, first);
        if first && type_url == TypeUrl::ENDPOINT {
            self.warming.drain().for_each(|name| delivery.owe(&name));
        }
        let names: usize = self.types.values().map(|delivery| delivery.bytes()).sum();
        if names + self.hosts.bytes() > self.limits.subscription_bytes {
            return Err(Refusal::TooManyNames(self.limits.subscription_bytes));
        }
        Ok(Turn { responses: self.pump(), answer })
    }

    /// Takes the group's current snapshot; `None` while the group has none, when everybody keeps what they have.
    pub fn on_snapshot(&mut self, snapshot: Option<Arc<Snapshot>>) -> Vec<Response> {
        let old = std::mem::replace(&mut self.snapshot, snapshot);
        if self.scope == Scope::Only(TypeUrl::ENDPOINT)
            && let (Some(old), Some(new), Some(delivery)) =
                (old, &self.snapshot, self.types.get_mut(&TypeUrl::ENDPOINT))
        {
            // The clusters are on another stream; that they change is all that is known of them here.
            let changes = new.set(&TypeUrl::CLUSTER).changes_since(old.set(&TypeUrl::CLUSTER));
            changes
                .changed
                .iter()
                .filter_map(|cluster| cluster.eds_name())
                .for_each(|name| delivery.owe(name));
        }
        self.pump()
    }

    /// Heartbeats that are due at `now`, and when to ask again: once that has come, and after every request and snapshot.
    /// `None` while the client holds nothing that expires.
    pub fn heartbeats(&mut self, now: Instant) -> (Vec<Response>, Option<Instant>) {
        let mut responses = Vec::new();
        for delivery in self.types.values_mut() {
            if delivery.heartbeat_due(now).is_some_and(|due| due <= now) {
                responses.extend(delivery.heartbeat(now));
            }
        }
        (responses, self.types.values_mut().filter_map(|delivery| delivery.heartbeat_due(now)).min())
    }

    /// Each type the client ever asked for, in send order.
    pub fn status(&self) -> impl Iterator<Item = (&TypeUrl, &TypeStatus)> {
        self.types.iter().map(|(type_url, delivery)| (type_url, &delivery.status))
    }

    /// Everything that may be sent now.
    fn pump(&mut self) -> Vec<Response> {
        self.types.values_mut().for_each(|delivery| delivery.count_names());
        let Some(snapshot) = self.snapshot.clone() else { return Vec::new() };
        if self.flavour == Flavour::Delta
            && let Some(delivery) = self.types.get_mut(&TypeUrl::VIRTUAL_HOST)
        {
            self.hosts.look(snapshot.set(&TypeUrl::VIRTUAL_HOST), delivery, self.limits.hosts);
            delivery.count_names();
        }
        let mut responses = Vec::new();
        let aggregated = self.scope == Scope::Aggregated;
        let defers = aggregated && self.flavour == Flavour::Delta;
        let types: Vec<TypeUrl> = self.types.keys().cloned().collect();
        let mut held_back = false;
        for type_url in &types {
            let ordered = aggregated && type_url.is_ordered();
            let idle = self.others_idle(type_url, &snapshot);
            let waits = aggregated && self.waits_for_clusters(type_url);
            let set = &self.set(&snapshot, type_url).clone();
            let Some(delivery) = self.types.get_mut(type_url) else { continue };
            if waits && !delivery.is_asked() {
                held_back |= delivery.is_behind(set);
                continue;
            }
            // Somebody waits for a host, and what it was before is no answer.
            let is_urgent = *type_url == TypeUrl::VIRTUAL_HOST && delivery.is_asked();
            let target = match delivery.base() {
                Some(base) if ordered && held_back && !is_urgent => base.clone(),
                _ => set.clone(),
            };
            let removals = !(defers && goes_last(type_url)) || (idle && !delivery.is_resuming());
            let made = delivery.next(&target, removals);
            held_back |= ordered && delivery.is_blocked(set);
            self.take(made, &mut responses);
        }
        for type_url in types.iter().filter(|type_url| defers && goes_last(type_url)) {
            let idle = self.others_idle(type_url, &snapshot);
            if let Some(delivery) = self.types.get_mut(type_url).filter(|_| idle) {
                let made = delivery.next(snapshot.set(type_url), true);
                self.take(made, &mut responses);
            }
        }
        responses
    }

    /// What there is of a type, for this client.
    fn set<'a>(&'a self, snapshot: &'a Snapshot, type_url: &TypeUrl) -> &'a Arc<ResourceSet> {
        let of_hosts = (*type_url == TypeUrl::VIRTUAL_HOST).then(|| self.hosts.set()).flatten();
        of_hosts.unwrap_or_else(|| snapshot.set(type_url))
    }

    /// Whether what changed of a type is of no use yet: filters' code comes with clusters, and whoever comes back with routes
    /// of an earlier stream has missed the steps in which new clusters come first.
    fn waits_for_clusters(&self, type_url: &TypeUrl) -> bool {
        const REFERRING: [TypeUrl; 3] = [TypeUrl::LISTENER, TypeUrl::ROUTE, TypeUrl::VIRTUAL_HOST];
        let Some(clusters) = self.types.get(&TypeUrl::CLUSTER) else { return false };
        match self.types.get(type_url) {
            _ if *type_url == TypeUrl::EXTENSION => clusters.is_unanswered(),
            Some(referring) if REFERRING.contains(type_url) => {
                referring.is_resuming() && clusters.is_warming()
            }
            _ => false,
        }
    }

    /// Whether nothing the client has may still refer to what this type is about to lose.
    fn others_idle(&self, type_url: &TypeUrl, snapshot: &Snapshot) -> bool {
        self.types.iter().all(|(other, delivery)| {
            let refers = other.is_ordered() && (!goes_last(other) || other < type_url);
            !refers || delivery.is_idle(self.set(snapshot, other))
        })
    }

    /// Queues a response; the endpoints of clusters that it changes are owed again.
    fn take(&mut self, made: Option<Made>, responses: &mut Vec<Response>) {
        let Some(Made { response, changes }) = made else { return };
        if response.type_url == TypeUrl::CLUSTER && self.scope == Scope::Aggregated {
            let resumes = self.types.get(&TypeUrl::CLUSTER).is_some_and(|delivery| delivery.resumed());
            let endpoints = self.types.get_mut(&TypeUrl::ENDPOINT);
            let clusters: Box<dyn Iterator<Item = &Arc<Resource>>> = match &changes {
                Warming::Payload => response.payload.iter(),
                Warming::Changed(changes) => Box::new(changes.changed.iter()),
            };
            let names = clusters.filter_map(|cluster| cluster.eds_name());
            match endpoints {
                Some(endpoints) => names.for_each(|name| endpoints.owe(name)),
                None if resumes => self.warming.extend(names.cloned()),
                // Whoever did not have the clusters has no endpoints either, and will ask.
                None => {}
            }
        }
        responses.push(response);
    }

    /// The type a request is about.
    fn admit(&self, named: &str) -> Result<TypeUrl, Refusal> {
        let type_url = match &self.scope {
            Scope::Aggregated if named.is_empty() => return Err(Refusal::NoType),
            Scope::Aggregated => TypeUrl::new(named),
            Scope::Only(only) if named.is_empty() || named == only.as_str() => only.clone(),
            Scope::Only(only) => {
                return Err(Refusal::WrongType { expected: only.to_string(), found: named.to_owned() });
            }
        };
        match self.types.len() >= self.limits.types && !self.types.contains_key(&type_url) {
            true => Err(Refusal::TooManyTypes(self.limits.types)),
            false => Ok(type_url),
        }
    }
}

/// Types whose removals come after all others': what listeners and routes refer to.
fn goes_last(type_url: &TypeUrl) -> bool {
    *type_url == TypeUrl::CLUSTER || *type_url == TypeUrl::ENDPOINT
}

/// A request with its flavour taken off.
struct Asked {
    type_url: String,
    nonce: String,
    error: Option<String>,
    claim: Claim,
    names: Names,
}

enum Names {
    All(Vec<String>),
    Changed { subscribe: Vec<String>, unsubscribe: Vec<String> },
}

impl Asked {
    fn new(request: Request, flavour: Flavour) -> Result<Asked, Refusal> {
        match (request, flavour) {
            (Request::StateOfTheWorld(request), Flavour::StateOfTheWorld) => Ok(Asked {
                type_url: request.type_url,
                nonce: request.response_nonce,
                error: request.error_detail.map(|status| status.message),
                claim: Claim::Set(request.version_info),
                names: Names::All(request.resource_names),
            }),
            (Request::Delta(request), Flavour::Delta) => Ok(Asked {
                type_url: request.type_url,
                nonce: request.response_nonce,
                error: request.error_detail.map(|status| status.message),
                claim: Claim::Versions(request.initial_resource_versions),
                names: Names::Changed {
                    subscribe: request.resource_names_subscribe,
                    unsubscribe: request.resource_names_unsubscribe,
                },
            }),
            _ => Err(Refusal::WrongFlavour),
        }
    }
}

#[cfg(test)]
mod tests;
