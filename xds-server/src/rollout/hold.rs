//! What a group gets while its proxies refuse part of what is desired: the refused part as it was last good, the
//! rest as desired. Pure.
//!
//! What is held is not a resource but the [`Unit`] of the gateway that made it, so that what belongs together stays
//! together: a listener with its routes, a filter's configuration with the routes that name its policies. Held
//! listeners keep whatever they refer to.

use std::collections::BTreeSet;

use crate::gateway::Gateway;
use crate::gateway::model::{Listener, Runtime};
use crate::gateway::position::join;
use crate::gateway::scalar::Name;
use crate::snapshot::TypeUrl;
use crate::translate::{clusters_of, policies_of};

/// The part of a gateway that is accepted or held as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// A cluster and its endpoints.
    Cluster(Name),
    /// A listener and its routes.
    Listener(Name),
    /// A listener, its routes and the policies that they use.
    Policies(Name),
    /// The group's runtime values.
    Runtime,
}

impl Unit {
    /// The unit that made a resource. `None` for types that no unit makes.
    pub fn of(type_url: &TypeUrl, resource: &str) -> Option<Self> {
        let name = |name: &str| name.parse().ok();
        match type_url {
            url if *url == TypeUrl::CLUSTER || *url == TypeUrl::ENDPOINT => name(resource).map(Self::Cluster),
            url if *url == TypeUrl::LISTENER || *url == TypeUrl::ROUTE => name(resource).map(Self::Listener),
            url if *url == TypeUrl::VIRTUAL_HOST => name(resource.split_once('/')?.0).map(Self::Listener),
            url if *url == TypeUrl::EXTENSION => name(resource.rsplit_once('/')?.0).map(Self::Policies),
            url if *url == TypeUrl::RUNTIME => Some(Self::Runtime),
            _ => None,
        }
    }

    /// Of the cluster or listener.
    pub fn name(&self) -> &str {
        match self {
            Self::Cluster(name) | Self::Listener(name) | Self::Policies(name) => name.as_str(),
            Self::Runtime => "runtime",
        }
    }

    /// Whether two gateways say different things here.
    pub fn differs(&self, a: &Gateway, b: &Gateway) -> bool {
        match self {
            Self::Cluster(name) => a.clusters.get(name) != b.clusters.get(name),
            Self::Listener(name) => a.listeners.get(name) != b.listeners.get(name),
            Self::Policies(name) => {
                a.listeners.get(name) != b.listeners.get(name) || !self.changed_policies(a, b).is_empty()
            }
            Self::Runtime => runtimes(a).ne(runtimes(b)),
        }
    }

    /// Where the YAML says it: a JSON Pointer. `before` helps to find which policy it was.
    pub fn pointer(&self, gateway: &Gateway, before: Option<&Gateway>) -> String {
        match self {
            Self::Cluster(name) => join("/clusters", name.as_str()),
            Self::Listener(name) => join("/listeners", name.as_str()),
            Self::Policies(name) => {
                let changed = before.map(|before| self.changed_policies(gateway, before)).unwrap_or_default();
                match changed.as_slice() {
                    [(kind, policy)] => join(&join("/policies", kind), policy.as_str()),
                    _ => join("/listeners", name.as_str()),
                }
            }
            Self::Runtime => "/proxies".to_owned(),
        }
    }

    /// Policies that routes of the listener use in `a`, and that `b` does not have so.
    fn changed_policies(&self, a: &Gateway, b: &Gateway) -> Vec<(&'static str, Name)> {
        let Self::Policies(name) = self else { return Vec::new() };
        let Some(listener) = a.listeners.get(name) else { return Vec::new() };
        let (auth, rate_limit) = policies_of(listener);
        let auth = auth.into_iter().filter(|name| a.policies.auth.get(name) != b.policies.auth.get(name));
        let rate_limit = rate_limit
            .into_iter()
            .filter(|name| a.policies.rate_limit.get(name) != b.policies.rate_limit.get(name));
        auth.map(|name| ("auth", name)).chain(rate_limit.map(|name| ("rate_limit", name))).collect()
    }
}

/// `wanted`, with every held unit as in `good`; a held unit that `good` does not have is left out. A listener that
/// refers to a cluster left out that way is held with it.
pub fn compose(wanted: &Gateway, good: &Gateway, held: &BTreeSet<Unit>) -> Gateway {
    let mut gateway = wanted.clone();
    let mut listeners = BTreeSet::new();
    for unit in held {
        match unit {
            Unit::Cluster(name) => {
                put(&mut gateway.clusters, name, good.clusters.get(name));
                if !gateway.clusters.contains_key(name) {
                    let refers = |listener: &Listener| clusters_of(wanted, listener).contains(name);
                    listeners
                        .extend(wanted.listeners.iter().filter(|(_, l)| refers(l)).map(|(name, _)| name));
                }
            }
            Unit::Listener(name) | Unit::Policies(name) => drop(listeners.insert(name)),
            Unit::Runtime => {
                for (name, group) in &mut gateway.proxies {
                    let good = good.proxies.get(name).map(|good| good.runtime.clone());
                    group.runtime = good.unwrap_or_default();
                }
            }
        }
    }
    for unit in held {
        let Unit::Policies(name) = unit else { continue };
        let used =
            [wanted, good].into_iter().filter_map(|gateway| gateway.listeners.get(name)).map(policies_of);
        for (auth, rate_limit) in used {
            for name in auth.iter().filter(|name| good.policies.auth.contains_key(*name)) {
                put(&mut gateway.policies.auth, name, good.policies.auth.get(name));
            }
            for name in rate_limit.iter().filter(|name| good.policies.rate_limit.contains_key(*name)) {
                put(&mut gateway.policies.rate_limit, name, good.policies.rate_limit.get(name));
            }
        }
    }
    for name in listeners {
        put(&mut gateway.listeners, name, good.listeners.get(name));
        let Some(listener) = good.listeners.get(name) else { continue };
        for name in clusters_of(good, listener) {
            keep(&mut gateway.clusters, &good.clusters, &name);
        }
        let (auth, rate_limit) = policies_of(listener);
        auth.iter().for_each(|name| keep(&mut gateway.policies.auth, &good.policies.auth, name));
        rate_limit
            .iter()
            .for_each(|name| keep(&mut gateway.policies.rate_limit, &good.policies.rate_limit, name));
    }
    if !held.is_empty() {
        // Those that nothing held refers to reach nobody.
        good.certificates.keys().for_each(|name| keep(&mut gateway.certificates, &good.certificates, name));
        good.trusted_cas.keys().for_each(|name| keep(&mut gateway.trusted_cas, &good.trusted_cas, name));
    }
    gateway
}

fn runtimes(gateway: &Gateway) -> impl Iterator<Item = (&Name, &Runtime)> {
    gateway.proxies.iter().map(|(name, group)| (name, &group.runtime))
}

type Section<V> = std::collections::BTreeMap<Name, V>;

fn put<V: Clone>(into: &mut Section<V>, name: &Name, value: Option<&V>) {
    match value {
        Some(value) => drop(into.insert(name.clone(), value.clone())),
        None => drop(into.remove(name)),
    }
}

/// Adds what is missing.
fn keep<V: Clone>(into: &mut Section<V>, from: &Section<V>, name: &Name) {
    if let (false, Some(value)) = (into.contains_key(name), from.get(name)) {
        into.insert(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{SourceFile, load};

    /// One line a section; listeners as `name: cluster`.
    fn gateway(listeners: &[(&str, &str)], clusters: &[(&str, u16)], limit: u32) -> Gateway {
        let names: Vec<&str> = listeners.iter().map(|(name, _)| *name).collect();
        let mut text = format!("version: v1\nproxies: {{ edge: {{ listeners: [{}] }} }}\n", names.join(", "));
        text += "listeners:\n";
        for (port, (name, cluster)) in (1..).zip(listeners) {
            text += &format!(
                "  {name}: {{ address: 127.0.0.1:{port}, policies: {{ rate_limit: p }}, virtual_hosts: [{{ name: v, hosts: ['*'], \
                 routes: [{{ match: {{ path: {{ prefix: / }} }}, to: {cluster} }}] }}] }}\n"
            );
        }
        text += "clusters:\n";
        for (name, port) in clusters {
            text += &format!("  {name}: {{ endpoints: [127.0.0.1:{port}] }}\n");
        }
        text += &format!("policies: {{ rate_limit: {{ p: {{ key: [route], limit: {limit}/s }} }} }}\n");
        load(vec![SourceFile { path: "g.yaml".into(), text }]).unwrap_or_else(|e| panic!("{e}")).gateway
    }

    fn unit(type_url: &TypeUrl, name: &str) -> BTreeSet<Unit> {
        BTreeSet::from([Unit::of(type_url, name).unwrap()])
    }

    fn target<'a>(gateway: &'a Gateway, listener: &str) -> &'a str {
        gateway.listeners[listener].virtual_hosts[0].routes[0].to[0].cluster.as_str()
    }

    #[test]
    fn a_changed_cluster_is_held_as_it_was_and_the_rest_moves_on() {
        let good = gateway(&[("a", "x"), ("b", "x")], &[("x", 1)], 1);
        let wanted = gateway(&[("a", "x"), ("b", "y")], &[("x", 2), ("y", 2)], 2);
        let held = compose(&wanted, &good, &unit(&TypeUrl::CLUSTER, "x"));
        assert_eq!(held.clusters["x"], good.clusters["x"]);
        assert_eq!((&held.listeners, &held.policies), (&wanted.listeners, &wanted.policies));
    }

    #[test]
    fn a_new_cluster_holds_the_listeners_that_refer_to_it() {
        let good = gateway(&[("a", "x"), ("b", "x")], &[("x", 1)], 1);
        let wanted = gateway(&[("a", "y"), ("b", "z")], &[("y", 2), ("z", 2)], 1);
        let held = compose(&wanted, &good, &unit(&TypeUrl::CLUSTER, "y"));
        assert_eq!((target(&held, "a"), target(&held, "b")), ("x", "z"));
        assert_eq!(
            held.clusters.keys().map(Name::as_str).collect::<Vec<_>>(),
            ["x", "z"],
            "x is still referred to"
        );
    }

    #[test]
    fn a_held_listener_keeps_its_routes_and_a_new_one_is_left_out() {
        let good = gateway(&[("a", "x")], &[("x", 1)], 1);
        let wanted = gateway(&[("a", "y"), ("b", "y")], &[("y", 2)], 2);
        let held: BTreeSet<Unit> =
            [unit(&TypeUrl::ROUTE, "a"), unit(&TypeUrl::LISTENER, "b")].into_iter().flatten().collect();
        let composed = compose(&wanted, &good, &held);
        assert_eq!((target(&composed, "a"), composed.listeners.len()), ("x", 1));
        assert_eq!(composed.policies, wanted.policies, "policies are another resource, and move on");
    }

    #[test]
    fn a_refused_filter_holds_its_policies_too() {
        let good = gateway(&[("a", "x")], &[("x", 1)], 1);
        let wanted = gateway(&[("a", "x")], &[("x", 2)], 2);
        let refused = unit(&TypeUrl::EXTENSION, "a/rate_limit");
        let held = compose(&wanted, &good, &refused);
        assert_eq!((&held.policies, &held.clusters), (&good.policies, &wanted.clusters));
        let refused = refused.first().unwrap();
        assert!(refused.differs(&wanted, &good) && !refused.differs(&held, &good));
        assert_eq!(refused.pointer(&wanted, Some(&good)), "/policies/rate_limit/p");
    }

    #[test]
    fn refused_runtime_values_are_held_by_themselves() {
        let good = gateway(&[("a", "x")], &[("x", 1)], 1);
        let mut wanted = gateway(&[("a", "x")], &[("x", 2)], 1);
        let values = serde_json::from_str(r#"{"some.key": 1}"#).unwrap();
        wanted.proxies.values_mut().for_each(|group| group.runtime = Runtime::clone(&values));
        let held = compose(&wanted, &good, &unit(&TypeUrl::RUNTIME, "tollgate"));
        assert_eq!((&held.proxies, &held.clusters), (&good.proxies, &wanted.clusters));
        assert!(Unit::Runtime.differs(&wanted, &good));
    }

    #[test]
    fn held_listeners_and_clusters_keep_their_certificates() {
        let load =
            |text: &str| load(vec![SourceFile { path: "g.yaml".into(), text: text.into() }]).unwrap().gateway;
        let good = load(
            "version: v1\ncertificates: {a: {chain: a, key: b}}\ntrusted_cas: {b: {file: c}}\n\
             clusters: {x: {endpoints: ['127.0.0.1:1'], tls: {ca: b, sni: x, certificate: a}}}\n",
        );
        let wanted = load("version: v1\nclusters: {x: {endpoints: ['127.0.0.1:1']}}\n");
        let held = compose(&wanted, &good, &unit(&TypeUrl::CLUSTER, "x"));
        assert_eq!((held.certificates, held.trusted_cas), (good.certificates, good.trusted_cas));
    }

    #[test]
    fn nothing_held_is_what_is_wanted() {
        let (good, wanted) = (gateway(&[("a", "x")], &[("x", 1)], 1), gateway(&[("b", "y")], &[("y", 1)], 2));
        assert_eq!(compose(&wanted, &good, &BTreeSet::new()), wanted);
    }
}
