//! Gateway → Envoy's protos, for one group of proxies. Pure: no I/O, no clock, no state.
//!
//! One file a resource type. Names come from the YAML's names, so an edit touches only what it changes:
//!
//! | resource | name | from |
//! |---|---|---|
//! | Listener (LDS) | the listener's | its address and timeouts |
//! | Listener (LDS), for gRPC clients | the listener's | one with `api_listener` |
//! | RouteConfiguration (RDS) | the listener's | its virtual hosts and routes |
//! | VirtualHost (VHDS) | `LISTENER/NAME` | a virtual host of a listener with `on_demand` |
//! | Wasm or DynamicModuleFilter (ECDS) | `LISTENER/gateway` | the policies that its routes use, and issuers' keys |
//! | Cluster (CDS), ClusterLoadAssignment (EDS) | the cluster's | the cluster |
//! | Runtime (RTDS) | `tollgate` | the group's runtime values |
//! | Cluster (CDS) | `tollgate/wasm`, … | the filter's module, where Envoys fetch it |
//! | Cluster (CDS) | `tollgate/quota` | the quota service, where a limit is shared or credentials can be revoked |
//! | Secret (SDS) | `certificate/NAME`, `trusted_ca/NAME` | the files of certificates and authorities that those name |
//!
//! No proto map here ever holds two entries: `envoy-types` keeps them in hash maps of random order, and equal
//! configurations must encode to equal bytes on every replica.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use crate::gateway::model::{AuthProvider, Filters, Listener, PolicyRefs, RateLimitPolicy, VirtualHost};
use crate::gateway::scalar::{Name, PolicyRef};
use crate::gateway::{Gateway, Problem};

mod cluster;
mod endpoint;
mod filter;
mod keys;
mod listener;
mod module;
mod native;
mod proto;
mod quota;
mod requirement;
mod route;
mod runtime;
mod secret;
mod tls;

pub use filter::MODULES;
pub use keys::KeySets;
pub use module::Modules;
pub use quota::QuotaService;

/// One resource, encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// `type.googleapis.com/…`.
    pub type_url: String,
    /// Unique within its type.
    pub name: String,
    /// The encoded message. May hold secrets.
    pub body: Vec<u8>,
    /// How long proxies keep it without hearing from xds-server; for ever where there is none.
    pub ttl: Option<Duration>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { type_url, name, body, ttl: _ } = self;
        write!(f, "Resource({type_url} {name:?}, {} bytes)", body.len())
    }
}

impl Resource {
    fn new<M: Message + prost::Name>(name: impl Into<String>, message: &M) -> Self {
        Self { type_url: M::type_url(), name: name.into(), body: message.encode_to_vec(), ttl: None }
    }
}

/// What one group of proxies is to have.
///
/// Usually `serving` and `present` are the same gateway. While proxies move from one to the next, `present`
/// holds both, so that what either refers to is there (make before break).
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Gives listeners and routes.
    pub serving: &'a Gateway,
    /// Give what listeners and routes refer to: clusters, policies and certificates. Of a name in several, the last counts.
    pub present: &'a [&'a Gateway],
    /// Keys and certificates, by where they come from.
    pub keys: &'a KeySets,
    /// How Envoys get the filters' code.
    pub modules: &'a Modules,
    /// Where Envoys ask for tokens.
    pub quota: &'a QuotaService,
}

/// All resources of the proxies whose node cluster is `group`. A group that the gateway doesn't name gets
/// nothing.
pub fn translate(group: &str, target: Target<'_>) -> Vec<Resource> {
    let mut resources = Vec::new();
    let mut clusters = BTreeMap::new();
    for gateway in target.present {
        for name in listeners(group, gateway).flat_map(|(_, listener)| clusters_of(gateway, listener)) {
            if let Some((name, cluster)) = gateway.clusters.get_key_value(&name) {
                clusters.insert(name, cluster);
            }
        }
    }
    for (name, cluster) in clusters {
        resources.push(Resource::new(name.as_str(), &cluster::cluster(name, cluster)));
        if cluster::is_eds(cluster) {
            resources.push(Resource::new(
                name.as_str(),
                &endpoint::load_assignment(name.as_str(), &cluster.endpoints),
            ));
        }
    }
    if target.present.iter().any(|gateway| runs_wasm(group, gateway)) {
        let clusters = filter::module_clusters(target.modules);
        resources.extend(clusters.iter().map(|cluster| Resource::new(&*cluster.name, cluster)));
    }
    if target.present.iter().any(|gateway| asks_quota(group, gateway) || asks_what_is_revoked(group, gateway))
    {
        let cluster = quota::cluster(target.quota);
        resources.push(Resource::new(&*cluster.name, &cluster));
    }
    resources.extend(secret::secrets(group, target));
    for (name, listener) in listeners(group, target.serving) {
        // gRPC clients run no filters.
        let filters = match listener.api_listener {
            true => Vec::new(),
            false => vec![filter::filter(name, listener, target)],
        };
        resources.push(Resource::new(name.as_str(), &listener::listener(name, listener, &filters)));
        resources.push(Resource::new(name.as_str(), &route::route_configuration(name, listener)));
        resources.extend(
            route::on_demand_hosts(name, listener).map(|host| Resource::new(host.name.clone(), &host)),
        );
        resources.extend(filters.iter().map(|filter| Resource::new(&*filter.name, &filter.config)));
    }
    if let Some(proxies) = target.serving.proxies.get(group) {
        resources.push(runtime::layer(&proxies.runtime, proxies.runtime_ttl));
    }
    resources
}

/// What the filters would refuse of a gateway's policies, though each value alone is right.
pub fn check(gateway: &Gateway, keys: &KeySets) -> Vec<Problem> {
    filter::check(gateway, keys)
}

/// The listeners of a group.
fn listeners<'a>(group: &str, gateway: &'a Gateway) -> impl Iterator<Item = (&'a Name, &'a Listener)> {
    let names = gateway.proxies.get(group).map(|proxies| proxies.listeners.as_slice()).unwrap_or_default();
    names.iter().filter_map(|name| gateway.listeners.get_key_value(name))
}

/// The policies of every route, with what it inherits.
fn route_policies(listener: &Listener) -> impl Iterator<Item = PolicyRefs> + '_ {
    listener.virtual_hosts.iter().flat_map(move |virtual_host| {
        let inherited = inherited(listener, virtual_host);
        virtual_host.routes.iter().map(move |route| route.policies.or(&inherited))
    })
}

/// What a route of this virtual host inherits.
fn inherited(listener: &Listener, virtual_host: &VirtualHost) -> PolicyRefs {
    virtual_host.policies.or(&listener.policies)
}

/// The policy's name, unless it is `none` or left out.
fn named(policy: &Option<PolicyRef>) -> Option<&Name> {
    match policy {
        Some(PolicyRef::Named(name)) => Some(name),
        Some(PolicyRef::None) | None => None,
    }
}

/// Clusters that the listener's routes and policies send to.
pub fn clusters_of(gateway: &Gateway, listener: &Listener) -> BTreeSet<Name> {
    let routes = listener.virtual_hosts.iter().flat_map(|virtual_host| &virtual_host.routes);
    let mut names: BTreeSet<Name> =
        routes.flat_map(|route| &route.to).map(|destination| destination.cluster.clone()).collect();
    for name in policies_of(listener).0 {
        let policy = gateway.policies.auth.get(&name);
        for provider in policy.into_iter().flat_map(|policy| policy.providers().1) {
            if let AuthProvider::ApiKey(keys) = provider {
                names.extend(keys.introspection.as_ref().map(|introspection| introspection.cluster.clone()));
            }
        }
    }
    names
}

/// Whether a group needs the filters' module.
fn runs_wasm(group: &str, gateway: &Gateway) -> bool {
    let mut listeners = listeners(group, gateway);
    listeners.any(|(_, listener)| !listener.api_listener && listener.filters == Filters::Wasm)
}

/// Whether a group has limits that it shares with others.
fn asks_quota(group: &str, gateway: &Gateway) -> bool {
    let names = listeners(group, gateway).flat_map(|(_, listener)| policies_of(listener).1);
    let mut policies = names.filter_map(|name| gateway.policies.rate_limit.get(&name));
    policies.any(RateLimitPolicy::is_shared)
}

/// Whether a group has credentials that can be revoked.
fn asks_what_is_revoked(group: &str, gateway: &Gateway) -> bool {
    let names = listeners(group, gateway).flat_map(|(_, listener)| policies_of(listener).0);
    let mut policies = names.filter_map(|name| gateway.policies.auth.get(&name));
    policies.any(|policy| policy.providers().1.iter().any(|provider| provider.revocations().is_some()))
}

/// Auth and rate limit policies that the listener's routes use.
pub fn policies_of(listener: &Listener) -> (BTreeSet<Name>, BTreeSet<Name>) {
    let (mut auth, mut rate_limit) = (BTreeSet::new(), BTreeSet::new());
    for policies in route_policies(listener) {
        auth.extend(named(&policies.auth).cloned());
        rate_limit.extend(named(&policies.rate_limit).cloned());
    }
    (auth, rate_limit)
}

/// Packs a message into an `Any`.
fn any<M: Message + prost::Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests;
