//! What a group gets while its proxies refuse part of what is desired: the refused part as it was last good, the
//! rest as desired. Pure.
//!
//! What is held is not a resource but the [`Unit`] of the gateway that made it, so that what belongs together stays
//! together: a listener with its routes, a filter's configuration with the routes that name its policies, a certificate
//! with what stood in its files. Held listeners keep whatever they refer to.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Desired;
use crate::gateway::model::{Listener, Runtime, TlsNames};
use crate::gateway::pem::{CaBundle, KeyPair};
use crate::gateway::position::join;
use crate::gateway::scalar::{Duration, Name};
use crate::gateway::{Gateway, ReferencedFiles};
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
    /// A certificate and its key, as their files had them.
    Certificate(Name),
    /// An authority, as its file had it.
    TrustedCa(Name),
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
            url if *url == TypeUrl::SECRET => match resource.split_once('/')? {
                ("certificate", certificate) => name(certificate).map(Self::Certificate),
                ("trusted_ca", ca) => name(ca).map(Self::TrustedCa),
                _ => None,
            },
            url if *url == TypeUrl::RUNTIME => Some(Self::Runtime),
            _ => None,
        }
    }

    /// Of the cluster, listener, certificate or authority.
    pub fn name(&self) -> &str {
        match self {
            Self::Cluster(name)
            | Self::Listener(name)
            | Self::Policies(name)
            | Self::Certificate(name)
            | Self::TrustedCa(name) => name.as_str(),
            Self::Runtime => "runtime",
        }
    }

    /// Whether two configurations say different things here.
    pub fn differs(&self, a: &Desired, b: &Desired) -> bool {
        let (one, other) = (&a.gateway, &b.gateway);
        match self {
            Self::Cluster(name) => one.clusters.get(name) != other.clusters.get(name),
            Self::Listener(name) => one.listeners.get(name) != other.listeners.get(name),
            Self::Policies(name) => {
                one.listeners.get(name) != other.listeners.get(name)
                    || !self.changed_policies(one, other).is_empty()
            }
            Self::Certificate(name) => key_pair(a, name) != key_pair(b, name),
            Self::TrustedCa(name) => ca_bundle(a, name) != ca_bundle(b, name),
            Self::Runtime => runtimes(one).ne(runtimes(other)),
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
            Self::Certificate(name) => join("/certificates", name.as_str()),
            Self::TrustedCa(name) => join("/trusted_cas", name.as_str()),
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

/// `wanted`, with every held unit as in `good`; a held unit that `good` does not have is left out. What refers to
/// something left out that way is held with it.
pub fn compose(wanted: &Desired, good: &Desired, held: &BTreeSet<Unit>) -> Desired {
    let mut files = ReferencedFiles::merged([&good.files, &wanted.files]);
    let mut held = held.clone();
    for unit in held.clone() {
        held.extend(dependants(&unit, wanted, good));
        match &unit {
            Unit::Certificate(name) => {
                let good = good.gateway.certificates.get(name).zip(key_pair(good, name));
                files
                    .key_pairs
                    .extend(good.map(|(certificate, pair)| (certificate.clone(), Arc::clone(pair))));
            }
            Unit::TrustedCa(name) => {
                let good = good.gateway.trusted_cas.get(name).zip(ca_bundle(good, name));
                files.ca_bundles.extend(good.map(|(ca, bundle)| (ca.clone(), Arc::clone(bundle))));
            }
            _ => {}
        }
    }
    let gateway = compose_gateway(&wanted.gateway, &good.gateway, &held);
    Desired { gateway, files, ..wanted.clone() }
}

/// What `wanted` has that refers to a unit which `good` does not have, down to listeners.
fn dependants(unit: &Unit, wanted: &Desired, good: &Desired) -> BTreeSet<Unit> {
    let (wanted_gateway, good_gateway) = (&wanted.gateway, &good.gateway);
    let is_new = match unit {
        Unit::Cluster(name) => !good_gateway.clusters.contains_key(name),
        Unit::Certificate(name) => !good_gateway.certificates.contains_key(name),
        Unit::TrustedCa(name) => !good_gateway.trusted_cas.contains_key(name),
        Unit::Listener(_) | Unit::Policies(_) | Unit::Runtime => false,
    };
    if !is_new {
        return BTreeSet::new();
    }
    let is_among = |names: TlsNames<'_>| match unit {
        Unit::Certificate(name) => names.certificates.contains(&name),
        Unit::TrustedCa(name) => names.trusted_cas.contains(&name),
        _ => false,
    };
    let sends_to = |listener: &Listener| match unit {
        Unit::Cluster(name) => clusters_of(wanted_gateway, listener).contains(name),
        _ => false,
    };
    let listeners = wanted_gateway.listeners.iter();
    let listeners = listeners.filter(|(_, listener)| is_among(listener.tls_names()) || sends_to(listener));
    let clusters = wanted_gateway.clusters.iter().filter(|(_, cluster)| is_among(cluster.tls_names()));
    let mut found: BTreeSet<Unit> = (listeners.map(|(name, _)| Unit::Listener(name.clone())))
        .chain(clusters.map(|(name, _)| Unit::Cluster(name.clone())))
        .collect();
    let further: Vec<Unit> = found.iter().flat_map(|unit| dependants(unit, wanted, good)).collect();
    found.extend(further);
    found
}

fn compose_gateway(wanted: &Gateway, good: &Gateway, held: &BTreeSet<Unit>) -> Gateway {
    let mut gateway = wanted.clone();
    for unit in held {
        match unit {
            Unit::Cluster(name) => put(&mut gateway.clusters, name, good.clusters.get(name)),
            Unit::Listener(name) | Unit::Policies(name) => {
                put(&mut gateway.listeners, name, good.listeners.get(name));
            }
            Unit::Certificate(name) => put(&mut gateway.certificates, name, good.certificates.get(name)),
            Unit::TrustedCa(name) => put(&mut gateway.trusted_cas, name, good.trusted_cas.get(name)),
            Unit::Runtime => {
                for (name, group) in &mut gateway.proxies {
                    let good = good.proxies.get(name).map(|good| (good.runtime.clone(), good.runtime_ttl));
                    (group.runtime, group.runtime_ttl) = good.unwrap_or_default();
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
    for unit in held {
        let (Unit::Listener(name) | Unit::Policies(name)) = unit else { continue };
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

fn key_pair<'a>(desired: &'a Desired, name: &Name) -> Option<&'a Arc<KeyPair>> {
    desired.files.key_pairs.get(desired.gateway.certificates.get(name)?)
}

fn ca_bundle<'a>(desired: &'a Desired, name: &Name) -> Option<&'a Arc<CaBundle>> {
    desired.files.ca_bundles.get(desired.gateway.trusted_cas.get(name)?)
}

fn runtimes(gateway: &Gateway) -> impl Iterator<Item = (&Name, &Runtime, Option<Duration>)> {
    gateway.proxies.iter().map(|(name, group)| (name, &group.runtime, group.runtime_ttl))
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
    use std::time::Instant;

    use super::*;
    use crate::gateway::{SourceFile, load};

    /// What a text says, without files.
    fn desired(text: &str) -> Desired {
        let loaded = load(vec![SourceFile { path: "g.yaml".into(), text: text.into() }]);
        let loaded = loaded.unwrap_or_else(|e| panic!("{e}"));
        Desired {
            version: String::new(),
            gateway: loaded.gateway,
            source_map: Arc::default(),
            files: ReferencedFiles::default(),
            warnings: Vec::new(),
            read_at: Instant::now(),
        }
    }

    /// One line a section; listeners as `name: cluster`.
    fn gateway(listeners: &[(&str, &str)], clusters: &[(&str, u16)], limit: u32) -> Desired {
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
        desired(&text)
    }

    fn hold(wanted: &Desired, good: &Desired, held: &BTreeSet<Unit>) -> Gateway {
        compose(wanted, good, held).gateway
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
        let held = hold(&wanted, &good, &unit(&TypeUrl::CLUSTER, "x"));
        let (good, wanted) = (good.gateway, wanted.gateway);
        assert_eq!(held.clusters["x"], good.clusters["x"]);
        assert_eq!((&held.listeners, &held.policies), (&wanted.listeners, &wanted.policies));
    }

    #[test]
    fn a_new_cluster_holds_the_listeners_that_refer_to_it() {
        let good = gateway(&[("a", "x"), ("b", "x")], &[("x", 1)], 1);
        let wanted = gateway(&[("a", "y"), ("b", "z")], &[("y", 2), ("z", 2)], 1);
        let held = hold(&wanted, &good, &unit(&TypeUrl::CLUSTER, "y"));
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
        let composed = hold(&wanted, &good, &held);
        assert_eq!((target(&composed, "a"), composed.listeners.len()), ("x", 1));
        assert_eq!(composed.policies, wanted.gateway.policies, "policies are another resource, and move on");
    }

    #[test]
    fn a_refused_filter_holds_its_policies_too() {
        let good = gateway(&[("a", "x")], &[("x", 1)], 1);
        let wanted = gateway(&[("a", "x")], &[("x", 2)], 2);
        let refused = unit(&TypeUrl::EXTENSION, "a/gateway");
        let held = compose(&wanted, &good, &refused);
        assert_eq!(held.gateway.policies, good.gateway.policies);
        assert_eq!(held.gateway.clusters, wanted.gateway.clusters);
        let refused = refused.first().unwrap();
        assert!(refused.differs(&wanted, &good) && !refused.differs(&held, &good));
        assert_eq!(refused.pointer(&wanted.gateway, Some(&good.gateway)), "/policies/rate_limit/p");
    }

    #[test]
    fn refused_runtime_values_are_held_by_themselves() {
        let good = gateway(&[("a", "x")], &[("x", 1)], 1);
        let mut wanted = gateway(&[("a", "x")], &[("x", 2)], 1);
        let values = serde_json::from_str(r#"{"some.key": 1}"#).unwrap();
        wanted.gateway.proxies.values_mut().for_each(|group| group.runtime = Runtime::clone(&values));
        let held = hold(&wanted, &good, &unit(&TypeUrl::RUNTIME, "tollgate"));
        assert_eq!((&held.proxies, &held.clusters), (&good.gateway.proxies, &wanted.gateway.clusters));
        assert!(Unit::Runtime.differs(&wanted, &good));
    }

    #[test]
    fn held_listeners_and_clusters_keep_their_certificates() {
        let good = desired(
            "version: v1\ncertificates: {a: {chain: a, key: b}}\ntrusted_cas: {b: {file: c}}\n\
             clusters: {x: {endpoints: ['127.0.0.1:1'], tls: {ca: b, sni: x, certificate: a}}}\n",
        );
        let wanted = desired("version: v1\nclusters: {x: {endpoints: ['127.0.0.1:1']}}\n");
        let held = hold(&wanted, &good, &unit(&TypeUrl::CLUSTER, "x"));
        assert_eq!(held.certificates, good.gateway.certificates);
        assert_eq!(held.trusted_cas, good.gateway.trusted_cas);
    }

    /// The certificate `a` of the cluster `x`, as its files have it; every call makes another.
    fn with_certificate(mut desired: Desired) -> Desired {
        let key = rcgen::KeyPair::generate().unwrap();
        let chain = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let pair = Arc::new(KeyPair::parse(&chain, &key.serialize_pem()).unwrap());
        let bundle = Arc::new(CaBundle::parse(&chain).unwrap());
        for certificate in desired.gateway.certificates.values() {
            desired.files.key_pairs.insert(certificate.clone(), Arc::clone(&pair));
        }
        for ca in desired.gateway.trusted_cas.values() {
            desired.files.ca_bundles.insert(ca.clone(), Arc::clone(&bundle));
        }
        desired
    }

    const TLS: &str = "version: v1
certificates: {a: {chain: a, key: b}}
trusted_cas: {b: {file: c}}
proxies: {edge: {listeners: [l]}}
clusters: {x: {endpoints: ['127.0.0.1:1'], tls: {ca: b, sni: x, certificate: a}}}
listeners: {l: {address: '127.0.0.1:2', virtual_hosts: [{name: v, hosts: ['*'], routes: [{match: {path: {prefix: /}}, to: x}]}]}}
";

    #[test]
    fn a_refused_rotation_is_held_at_what_the_files_had_before() {
        let (good, wanted) = (with_certificate(desired(TLS)), with_certificate(desired(TLS)));
        for (resource, unit_is_held) in [("certificate/a", [true, false]), ("trusted_ca/b", [false, true])] {
            let held = unit(&TypeUrl::SECRET, resource);
            assert!(held.first().unwrap().differs(&wanted, &good));
            let composed = compose(&wanted, &good, &held);
            assert_eq!(composed.gateway, wanted.gateway);
            let is_good = [
                composed.files.key_pairs == good.files.key_pairs,
                composed.files.ca_bundles == good.files.ca_bundles,
            ];
            assert_eq!(is_good, unit_is_held, "{resource}");
        }
    }

    #[test]
    fn a_new_certificate_holds_what_shows_it() {
        let good = desired("version: v1\nproxies: {edge: {listeners: []}}\n");
        let wanted = with_certificate(desired(TLS));
        let held = hold(&wanted, &good, &unit(&TypeUrl::SECRET, "certificate/a"));
        assert_eq!((held.certificates.len(), held.clusters.len(), held.listeners.len()), (0, 0, 0));
        assert_eq!(held.trusted_cas, wanted.gateway.trusted_cas);
    }

    #[test]
    fn nothing_held_is_what_is_wanted() {
        let (good, wanted) = (gateway(&[("a", "x")], &[("x", 1)], 1), gateway(&[("b", "y")], &[("y", 1)], 2));
        assert_eq!(hold(&wanted, &good, &BTreeSet::new()), wanted.gateway);
    }
}
