//! What values say of each other: names that exist, fields that go together, bounds.
//!
//! Everything Envoy would refuse is to be refused here, where the YAML's line is known.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Canary, Gateway, HealthCheck, Listener, PolicyRefs};
use super::position::join;
use super::report::Problem;
use super::scalar::{Name, PolicyRef};

mod api_listener;
mod policy;
mod requirement;
mod route;
mod runtime;
mod tls;

/// Name in the bootstraps of `envoy-configs/`.
const BOOTSTRAP_CLUSTER: &str = "xds-server";

/// All problems, in the order of the model.
pub(super) fn check(gateway: &Gateway) -> Vec<Problem> {
    let mut problems = Vec::new();
    proxies(gateway, &mut problems);
    for (name, listener) in &gateway.listeners {
        self::listener(gateway, &join("/listeners", name.as_str()), listener, &mut problems);
    }
    clusters(gateway, &mut problems);
    api_listener::check(gateway, &mut problems);
    policy::check(gateway, &mut problems);
    problems
}

/// A reference to a name under `section`, or a problem that suggests the nearest.
fn known<V>(kind: &str, map: &BTreeMap<Name, V>, name: &Name, pointer: String, problems: &mut Vec<Problem>) {
    if !map.contains_key(name) {
        let problem = Problem::value(pointer, format!("there is no {kind} `{name}`"));
        problems.push(problem.suggest(name.as_str(), map.keys().map(Name::as_str)));
    }
}

fn proxies(gateway: &Gateway, problems: &mut Vec<Problem>) {
    for (group, proxies) in &gateway.proxies {
        let pointer = join("/proxies", group.as_str());
        if let Some(canary) = &proxies.canary {
            self::canary(&format!("{pointer}/canary"), canary, problems);
        }
        runtime::check(&format!("{pointer}/runtime"), &proxies.runtime, problems);
        runtime::ttl(&format!("{pointer}/runtime_ttl"), proxies.runtime_ttl, problems);
        let pointer = format!("{pointer}/listeners");
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeMap::new());
        for (index, name) in proxies.listeners.iter().enumerate() {
            let pointer = format!("{pointer}/{index}");
            known("listener", &gateway.listeners, name, pointer.clone(), problems);
            if !names.insert(name) {
                problems.push(Problem::value(pointer, format!("listener `{name}` stands here twice")));
                continue;
            }
            let address = gateway.listeners.get(name).and_then(|listener| listener.address.as_ref());
            let Some(address) = address else { continue };
            if let Some(other) = addresses.insert((address.ip(), address.port), name) {
                let message = format!("listeners `{other}` and `{name}` have the same address {address}");
                problems.push(Problem::value(pointer, message));
            }
        }
    }
}

fn canary(pointer: &str, canary: &Canary, problems: &mut Vec<Problem>) {
    if canary.share.is_some() != canary.labels.is_empty() {
        let problem = Problem::key(pointer, "canaries are chosen either by `labels` or by `share`");
        problems.push(problem.help("write {labels: {stage: canary}} or {share: 10}"));
    }
    if let Some(share) = canary.share {
        within(&format!("{pointer}/share"), "share", share, 1..=99, problems);
    }
    let percent = canary.max_error_percent;
    within(&format!("{pointer}/max_error_percent"), "max_error_percent", percent, 0..=100, problems);
}

fn listener(gateway: &Gateway, pointer: &str, listener: &Listener, problems: &mut Vec<Problem>) {
    match &listener.address {
        Some(address) if address.ip().is_none() => {
            let message = format!("`{}` is no IP address: a listener binds to one", address.host);
            let help = "use 0.0.0.0 for all interfaces, 127.0.0.1 for this machine only";
            problems.push(Problem::value(format!("{pointer}/address"), message).help(help));
        }
        None if !listener.api_listener => {
            let problem = Problem::key(pointer, "a listener needs an `address` to bind");
            problems.push(problem.help("or `api_listener: true`, for gRPC clients that use no proxy"));
        }
        _ => {}
    }
    tls::listener(gateway, pointer, listener, problems);
    policies(gateway, &format!("{pointer}/policies"), &listener.policies, problems);
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeMap::new());
    for (index, virtual_host) in listener.virtual_hosts.iter().enumerate() {
        let pointer = format!("{pointer}/virtual_hosts/{index}");
        if !names.insert(&virtual_host.name) {
            let message = format!("virtual host `{}` stands twice in this listener", virtual_host.name);
            problems.push(Problem::value(format!("{pointer}/name"), message));
        }
        if virtual_host.hosts.is_empty() {
            problems.push(
                Problem::value(format!("{pointer}/hosts"), "at least one host is needed").help("`*` is all"),
            );
        }
        for (index, host) in virtual_host.hosts.iter().enumerate() {
            let pointer = format!("{pointer}/hosts/{index}");
            if !is_host(host) {
                let help = "hosts are api.example.com, *.example.com, api.* or *, without scheme and port";
                problems.push(Problem::value(pointer, format!("`{host}` is no host")).help(help));
            } else if let Some(other) = hosts.insert(host.to_ascii_lowercase(), &virtual_host.name) {
                problems
                    .push(Problem::value(pointer, format!("virtual host `{other}` has `{host}` already")));
            }
        }
        policies(gateway, &format!("{pointer}/policies"), &virtual_host.policies, problems);
        route::headers(&format!("{pointer}/headers"), &virtual_host.headers, problems);
        route::check(gateway, &pointer, virtual_host, problems);
    }
    // Where nothing of it works, that is said instead.
    if !listener.api_listener {
        requirement::guarded(pointer, listener, problems);
    }
}

fn is_host(host: &str) -> bool {
    let name = match (host.strip_prefix('*'), host.strip_suffix('*')) {
        (Some(""), _) => return true,
        (Some(suffix), _) if suffix.starts_with(['.', '-']) => &suffix[1..],
        (None, Some(prefix)) if prefix.ends_with(['.', '-']) => &prefix[..prefix.len() - 1],
        (None, None) => host,
        _ => return false,
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // IPv6 literals come in brackets.
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    literal.is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
        || (!name.is_empty() && name.len() <= 253 && name.chars().all(fits))
}

fn policies(gateway: &Gateway, pointer: &str, refs: &PolicyRefs, problems: &mut Vec<Problem>) {
    if let Some(PolicyRef::Named(name)) = &refs.auth {
        known("auth policy", &gateway.policies.auth, name, format!("{pointer}/auth"), problems);
    }
    if let Some(PolicyRef::Named(name)) = &refs.rate_limit {
        known(
            "rate_limit policy",
            &gateway.policies.rate_limit,
            name,
            format!("{pointer}/rate_limit"),
            problems,
        );
    }
    requirement::values(pointer, refs, problems);
}

fn clusters(gateway: &Gateway, problems: &mut Vec<Problem>) {
    for (name, cluster) in &gateway.clusters {
        let pointer = join("/clusters", name.as_str());
        if name.as_str() == BOOTSTRAP_CLUSTER {
            let message = format!("`{name}` is the cluster by which Envoys find this server");
            problems.push(Problem::key(pointer.clone(), message).help("choose another name"));
        }
        tls::cluster(gateway, &pointer, cluster, problems);
        let mut addresses = BTreeSet::new();
        for (index, endpoint) in cluster.endpoints.iter().enumerate() {
            let pointer = format!("{pointer}/endpoints/{index}");
            if !addresses.insert(&endpoint.address) {
                let message = format!("endpoint {} stands here twice", endpoint.address);
                problems.push(Problem::value(pointer.clone(), message).help("give it a `weight` instead"));
            }
            within(&format!("{pointer}/weight"), "weight", endpoint.weight, 1..=1_000, problems);
        }
        if let Some(check) = &cluster.health_check {
            health_check(&format!("{pointer}/health_check"), check, problems);
        }
        if let Some(outliers) = &cluster.outlier_detection {
            let pointer = format!("{pointer}/outlier_detection");
            let percent = outliers.max_ejection_percent;
            within(
                &format!("{pointer}/max_ejection_percent"),
                "max_ejection_percent",
                percent,
                0..=100,
                problems,
            );
        }
    }
}

fn health_check(pointer: &str, check: &HealthCheck, problems: &mut Vec<Problem>) {
    if check.http.is_some() == check.tcp {
        let problem = Problem::value(pointer, "a health check is either `http` or `tcp`");
        problems.push(problem.help("write {http: /readyz} or {tcp: true}"));
    }
    let threshold = |name: &str| format!("{pointer}/{name}_threshold");
    within(&threshold("healthy"), "healthy_threshold", check.healthy_threshold, 1..=100, problems);
    within(&threshold("unhealthy"), "unhealthy_threshold", check.unhealthy_threshold, 1..=100, problems);
}

/// A number within its bounds, or a problem that names them.
fn within<N: PartialOrd + std::fmt::Display>(
    pointer: &str,
    what: &str,
    number: N,
    bounds: std::ops::RangeInclusive<N>,
    problems: &mut Vec<Problem>,
) {
    if !bounds.contains(&number) {
        let message =
            format!("{what} is {number}, but must be between {} and {}", bounds.start(), bounds.end());
        problems.push(Problem::value(pointer, message));
    }
}
