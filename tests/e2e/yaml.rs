//! Gateway YAML for tests, composed from lines, so that an edit is a line more or less.

use sha2::{Digest, Sha256};
use tollgate_tests::ports::Ports;

use crate::upstreams;

/// How filters run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filters {
    #[default]
    Wasm,
    Native,
}

impl Filters {
    /// A name that no other test's servers have.
    pub fn name(self, test: &str) -> String {
        match self {
            Self::Wasm => test.to_owned(),
            Self::Native => format!("{test}-native"),
        }
    }

    /// A series of the filters' metrics as Prometheus reads it from an Envoy that runs them so.
    pub fn told(self, series: &str) -> String {
        match self {
            Self::Wasm => series.to_owned(),
            Self::Native => series.replace('}', ",filters=\"native\"}").replace("{,", "{"),
        }
    }

    /// The text, whose listeners run filters so.
    pub fn of(self, text: &str) -> String {
        match self {
            Self::Wasm => text.to_owned(),
            Self::Native => text.replace("\n    address: ", "\n    filters: native\n    address: "),
        }
    }
}

/// One listener on the edge, with the clusters `a` and `b`; each part holds whole lines in flow style.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    /// Items of `routes`, in order.
    pub routes: Vec<String>,
    /// Members of `clusters`, beside `a` and `b`.
    pub clusters: Vec<String>,
    /// Members of `policies.auth`.
    pub auth: Vec<String>,
    /// Members of `policies.rate_limit`.
    pub rate_limit: Vec<String>,
    pub filters: Filters,
}

impl Edge {
    /// With these routes and nothing else.
    pub fn with_routes<const N: usize>(routes: [&str; N]) -> Self {
        Self { routes: routes.map(str::to_owned).to_vec(), ..Self::default() }
    }

    /// The text.
    pub fn text(&self, ports: &Ports) -> String {
        let mut lines = vec![
            "version: v1".to_owned(),
            "proxies: { edge: { listeners: [public] } }".to_owned(),
            "listeners:".to_owned(),
            "  public:".to_owned(),
            format!("    address: 127.0.0.1:{}", ports.edge),
            "    virtual_hosts:".to_owned(),
            "      - name: test".to_owned(),
            "        hosts: [\"*\"]".to_owned(),
            "        routes:".to_owned(),
        ];
        lines.extend(self.routes.iter().map(|route| format!("          - {route}")));
        lines.push("clusters:".to_owned());
        for (name, upstream) in [("a", upstreams::a()), ("b", upstreams::b())] {
            lines.push(format!("  {name}: {{ endpoints: [\"{}\"] }}", upstream.address()));
        }
        lines.extend(self.clusters.iter().map(|cluster| format!("  {cluster}")));
        lines.push("policies:".to_owned());
        for (kind, members) in [("auth", &self.auth), ("rate_limit", &self.rate_limit)] {
            // An empty mapping would need other brackets.
            lines.extend((!members.is_empty()).then(|| format!("  {kind}:")));
            lines.extend(members.iter().map(|member| format!("    {member}")));
        }
        if self.auth.is_empty() && self.rate_limit.is_empty() {
            lines.pop();
        }
        self.filters.of(&(lines.join("\n") + "\n"))
    }
}

/// A route by prefix to a cluster.
pub fn prefix(path: &str, cluster: &str) -> String {
    format!("{{ match: {{ path: {{ prefix: {path} }} }}, to: {cluster} }}")
}

/// An item of an auth policy's `keys`.
pub fn api_key(key: &str, consumer: &str) -> String {
    let sha256: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{{ sha256: {sha256}, consumer: {consumer} }}")
}

/// The text with one more route, before all others.
pub fn with_route(text: &str, route: &str) -> String {
    text.replacen("routes:\n", &format!("routes:\n          - {route}\n"), 1)
}

/// The text without a route that [`with_route`] has added.
pub fn without_route(text: &str, route: &str) -> String {
    text.replacen(&format!("          - {route}\n"), "", 1)
}
