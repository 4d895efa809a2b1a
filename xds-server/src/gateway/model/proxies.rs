//! Groups of proxies: what they get, whose certificates are theirs, and which of them go first.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Runtime;
use crate::gateway::scalar::{Duration, Identity, Name};

/// All Envoys with one node cluster.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyGroup {
    /// Names of the listeners that these Envoys get.
    pub listeners: Vec<Name>,
    /// Whose certificates are of this group: `["spiffe://example.org/edge/*", edge.internal]`. One name of a certificate
    /// is enough. `spiffe://…/*` is any path below, `*.edge.internal` one label. A group that has them is served to nobody
    /// else; where xds-server asks for certificates (`--grpc-client-ca`), one without them is served to nobody.
    #[serde(default)]
    pub identities: Vec<Identity>,
    /// Proxies that get every change first. The others follow once these have accepted it and do well with it; else it
    /// is taken back.
    pub canary: Option<Canary>,
    /// Envoy's runtime values, by Envoy's keys: `{circuit_breakers.api.default.max_requests: 500}`. Only Envoys take them
    /// whose bootstrap has the `rtds_layer` of `envoy-configs/edge.yaml`.
    #[serde(default)]
    pub runtime: Runtime,
    /// How long these Envoys keep the values of `runtime` without hearing from xds-server, 1s or more: then all of them are
    /// gone, until it is back. For values that must not stay behind, such as injected faults. Left out: for ever.
    pub runtime_ttl: Option<Duration>,
}

/// Which proxies of a group get a change first, and how they are judged. Exactly one of `labels` and `share`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Strings in the node metadata of the proxies (`node: {metadata: {stage: canary}}` in their bootstrap), all of
    /// them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Percent of the proxies, 1 to 99, chosen by their node ids.
    pub share: Option<u32>,
    /// How long canaries are watched once all of them have the change. Default 30s; proxies report every 10 s.
    #[serde(default = "Canary::observe")]
    pub observe: Duration,
    /// Percent of the canaries' requests that may fail (5xx, or no answer), 0 to 100. More take the change back at
    /// once. Default 5.
    #[serde(default = "Canary::max_error_percent")]
    pub max_error_percent: u32,
    /// Requests without which canaries are not judged. Until they have had so many they are watched on, up to ten times
    /// as long; then the change is taken back. Default 0: no request, no error.
    #[serde(default)]
    pub min_requests: u32,
}

impl Canary {
    fn observe() -> Duration {
        Duration::from_millis(30_000)
    }

    fn max_error_percent() -> u32 {
        5
    }
}
