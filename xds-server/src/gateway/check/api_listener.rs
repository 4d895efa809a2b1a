//! Listeners for gRPC clients without a proxy: what such a client can't do is refused, where it would be ignored or
//! would make the client refuse the whole resource.
//!
//! What they can do: gRFC A27, A28 (matches and weights), A31 (timeouts), A32 (circuit breaking), A44 (retries).

use std::collections::BTreeMap;

use crate::gateway::model::{
    Cluster, Filters, Gateway, HeaderChanges, Listener, LoadBalancing, PolicyRefs, ProxyGroup, Route,
    VirtualHost,
};
use crate::gateway::position::join;
use crate::gateway::report::Problem;
use crate::gateway::scalar::{Name, PolicyRef};

const HELP: &str =
    "gRPC clients without a proxy can't do this: use a listener with an `address`, and an Envoy";

/// All listeners with `api_listener`, the groups that get them, and the clusters that they send to.
pub(super) fn check(gateway: &Gateway, problems: &mut Vec<Problem>) {
    for (name, group) in &gateway.proxies {
        self::group(gateway, &join("/proxies", name.as_str()), group, problems);
    }
    let mut clusters = BTreeMap::new();
    for (name, listener) in gateway.listeners.iter().filter(|(_, listener)| listener.api_listener) {
        self::listener(name, &join("/listeners", name.as_str()), listener, problems);
        let routes = listener.virtual_hosts.iter().flat_map(|host| &host.routes);
        for destination in routes.flat_map(|route| &route.to) {
            clusters.insert(&destination.cluster, name);
        }
    }
    for (cluster, listener) in clusters {
        if let Some(found) = gateway.clusters.get(cluster) {
            self::cluster(&join("/clusters", cluster.as_str()), found, listener, problems);
        }
    }
}

fn group(gateway: &Gateway, pointer: &str, group: &ProxyGroup, problems: &mut Vec<Problem>) {
    let is_api = |name: &Name| gateway.listeners.get(name).map(|listener| listener.api_listener);
    let mut kinds = group.listeners.iter().map(is_api);
    let Some(first) = kinds.find_map(|kind| kind) else { return };
    if let Some(index) = group.listeners.iter().position(|name| is_api(name) == Some(!first)) {
        let message = "one group has a listener with `api_listener` and one with an `address`";
        let help = "gRPC clients and Envoys are groups of their own, told apart by `node.cluster`";
        problems.push(Problem::value(format!("{pointer}/listeners/{index}"), message).help(help));
    } else if first {
        let canary = group.canary.as_ref().is_some_and(|canary| canary.min_requests > 0);
        let runtime = !group.runtime.is_empty() || group.runtime_ttl.is_some();
        let fields = [("runtime", runtime), ("canary/min_requests", canary)];
        for (field, _) in fields.iter().filter(|(_, given)| *given) {
            let name = field.rsplit('/').next().unwrap_or(field);
            let why = match name {
                "runtime" => "gRPC clients have no runtime values",
                _ => "gRPC clients report no requests, so no canary would ever have enough",
            };
            problems
                .push(Problem::key(format!("{pointer}/{field}"), why).help(format!("leave `{name}` out")));
        }
    }
}

fn listener(name: &Name, pointer: &str, listener: &Listener, problems: &mut Vec<Problem>) {
    if listener.address.is_some() {
        let problem = Problem::key(format!("{pointer}/address"), "an `api_listener` has no address");
        problems.push(problem.help("gRPC clients connect to the endpoints of the clusters themselves"));
    }
    refuse(
        pointer,
        [
            ("tls", listener.tls.is_some()),
            ("trusted_hops", listener.trusted_hops > 0),
            ("trust_identity_headers", listener.trust_identity_headers),
            (
                "request_headers_timeout",
                listener.request_headers_timeout != Listener::request_headers_timeout(),
            ),
            ("stream_idle_timeout", listener.stream_idle_timeout != Listener::stream_idle_timeout()),
            ("filters", listener.filters != Filters::default()),
            ("on_demand", listener.on_demand),
        ],
        problems,
    );
    policies(pointer, &listener.policies, problems);
    for (index, host) in listener.virtual_hosts.iter().enumerate() {
        let pointer = format!("{pointer}/virtual_hosts/{index}");
        policies(&pointer, &host.policies, problems);
        refuse(&pointer, [("headers", host.headers != HeaderChanges::default())], problems);
        for (index, route) in host.routes.iter().enumerate() {
            self::route(&format!("{pointer}/routes/{index}"), route, problems);
        }
    }
    if !listener.virtual_hosts.iter().any(|host| is_for(host, name)) {
        let message = format!("no virtual host is for `{name}`, which is what its clients ask for");
        problems
            .push(Problem::key(format!("{pointer}/virtual_hosts"), message).help("`hosts: [\"*\"]` is all"));
    }
}

/// Whether a client of `xds:///NAME` finds its routes here.
fn is_for(host: &VirtualHost, name: &Name) -> bool {
    let name = name.as_str().to_ascii_lowercase();
    host.hosts.iter().map(|host| host.to_ascii_lowercase()).any(|host| {
        match (host.strip_prefix('*'), host.strip_suffix('*')) {
            (Some(suffix), _) => name.ends_with(suffix),
            (_, Some(prefix)) => name.starts_with(prefix),
            _ => host == name,
        }
    })
}

fn route(pointer: &str, route: &Route, problems: &mut Vec<Problem>) {
    let retry = route.retry.as_ref();
    refuse(
        pointer,
        [
            ("match/methods", !route.matches.methods.is_empty()),
            ("match/query", !route.matches.query.is_empty()),
            ("redirect", route.redirect.is_some()),
            ("respond", route.respond.is_some()),
            ("rewrite", route.rewrite.is_some()),
            ("headers", route.headers != HeaderChanges::default()),
            ("retry/per_try_timeout", retry.is_some_and(|retry| retry.per_try_timeout.is_some())),
        ],
        problems,
    );
    policies(pointer, &route.policies, problems);
    for (index, on) in retry.iter().flat_map(|retry| &retry.on).enumerate().filter(|(_, on)| !on.is_grpc()) {
        let message = format!("gRPC clients try again by gRPC status only, not on `{}`", on.as_str());
        let help = "cancelled, deadline-exceeded, internal, resource-exhausted and unavailable work here";
        problems.push(Problem::value(format!("{pointer}/retry/on/{index}"), message).help(help));
    }
}

fn policies(pointer: &str, refs: &PolicyRefs, problems: &mut Vec<Problem>) {
    let named = |policy: &Option<PolicyRef>| matches!(policy, Some(PolicyRef::Named(_)));
    let fields = [
        ("policies/auth", named(&refs.auth)),
        ("policies/rate_limit", named(&refs.rate_limit)),
        ("policies/required_scopes", refs.required_scopes.iter().flatten().next().is_some()),
        ("policies/required_claims", refs.required_claims.iter().flatten().next().is_some()),
    ];
    refuse(pointer, fields, problems);
}

fn refuse<const N: usize>(pointer: &str, fields: [(&str, bool); N], problems: &mut Vec<Problem>) {
    for (field, _) in fields.into_iter().filter(|(_, given)| *given) {
        let name = field.rsplit('/').next().unwrap_or(field);
        let message = format!("`{name}` does not work with `api_listener`");
        problems.push(Problem::key(format!("{pointer}/{field}"), message).help(HELP));
    }
}

/// What would make a client refuse the cluster.
fn cluster(pointer: &str, cluster: &Cluster, listener: &Name, problems: &mut Vec<Problem>) {
    let who = format!("the clients of `{listener}`, which is an `api_listener`");
    let mut problem = |field: &str, what: &str, help: &str| {
        let message = format!("{what} for {who}");
        problems.push(Problem::value(format!("{pointer}/{field}"), message).help(help));
    };
    if cluster.tls.is_some() {
        problem(
            "tls",
            "TLS can't be set up",
            "use another cluster: gRPC clients bring their own certificates",
        );
    }
    if cluster.load_balancing != LoadBalancing::RoundRobin {
        problem("load_balancing", "this does not work", "leave `load_balancing` out: they go round robin");
    }
    if let Some(index) = cluster.endpoints.iter().position(|endpoint| endpoint.address.ip().is_none()) {
        let pointer = format!("endpoints/{index}");
        problem(&pointer, "a DNS name does not work", "gRPC clients get IP addresses: write those");
    }
}
