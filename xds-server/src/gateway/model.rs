//! The YAML, as types. Every field's documentation is the reference that operators read
//! (`xds-server reference`, `envoy-configs/REFERENCE.md`).
//!
//! What one value can say of itself is checked while it parses; what needs a look at other values is in
//! `check`. There is no Envoy type here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{Address, Duration, HeaderName, HeaderValue, Name, Path, PolicyRef, Regex};

mod cluster;
mod policy;
mod proxies;
mod rate_limit;
mod runtime;
mod short_form;
mod tls;

pub use cluster::{
    CircuitBreakers, Cluster, Endpoint, HealthCheck, LoadBalancing, OutlierDetection, Protocol,
};
pub use policy::{
    Algorithm, ApiKey, ApiKeyProvider, AuthPolicy, AuthProvider, ClaimToHeader, Introspection, Jwks,
    JwtProvider, OnFailure, RequiredClaim, RevocationList,
};
pub use proxies::{Canary, ProxyGroup};
pub use rate_limit::{KeyPart, Limit, PlanLimit, PlanSource, Plans, QuotaHeaders, RateLimitPolicy, Scope};
pub use runtime::{Denominator, FractionalPercent, Runtime, RuntimeValue};
pub use tls::{Certificate, ClientCertificate, ClusterTls, ListenerTls, TlsNames, TlsVersion, TrustedCa};

/// A whole gateway: one file, or all files of a folder merged. A name may stand in one file only.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Version of this format: `v1`.
    pub version: Version,
    /// Which Envoys get which listeners, by the node cluster that they name themselves
    /// (`--service-cluster`).
    #[serde(default)]
    pub proxies: BTreeMap<Name, ProxyGroup>,
    /// Where Envoys accept connections, by name.
    #[serde(default)]
    pub listeners: BTreeMap<Name, Listener>,
    /// Where requests can be sent, by name.
    #[serde(default)]
    pub clusters: BTreeMap<Name, Cluster>,
    /// Certificates with their keys that listeners and clusters show, by name.
    #[serde(default)]
    pub certificates: BTreeMap<Name, Certificate>,
    /// Authorities that listeners and clusters believe, by name.
    #[serde(default)]
    pub trusted_cas: BTreeMap<Name, TrustedCa>,
    /// Rules that listeners, virtual hosts and routes refer to, by kind and name.
    #[serde(default)]
    pub policies: Policies,
}

/// Version of the format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// The first.
    #[default]
    V1,
}

/// A port that accepts HTTP/1.1 and HTTP/2. Paths are always normalised (RFC 3986), slashes
/// merged, and escaped slashes unescaped with a redirect, before a route is chosen. Requests with an underscore
/// in a header's name get 400: upstreams take `x_consumer_id` for `x-consumer-id`.
///
/// With `api_listener: true`, no port but a service that gRPC clients call without a proxy.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// IP address and port to bind. Needed, except with `api_listener`.
    pub address: Option<Address>,
    /// Whether this is a service for gRPC's own xDS clients, under the listener's name: a program that calls
    /// `xds:///NAME` gets these routes, and sends to the clusters' endpoints itself. Such clients match paths and headers,
    /// split by weight, and honour `timeout` and `retry`; the rest of a route or listener, policies too, needs an Envoy and
    /// is an error here. Of clusters they take the endpoints, unweighted and
    /// round robin, and `max_requests`.
    #[serde(default)]
    pub api_listener: bool,
    /// TLS. Left out: plain text.
    pub tls: Option<ListenerTls>,
    /// Proxies in front of this listener that append to `X-Forwarded-For`: 2 behind CloudFront and an ALB.
    /// The client address is taken from behind them.
    #[serde(default)]
    pub trusted_hops: u32,
    /// Whether `x-consumer-id` and the other identity headers are believed. Only for listeners whose clients
    /// are our own proxies; everywhere else they are removed.
    #[serde(default)]
    pub trust_identity_headers: bool,
    /// How long the request headers may take to arrive. Default 10s.
    #[serde(default = "Listener::request_headers_timeout")]
    pub request_headers_timeout: Duration,
    /// How long a stream may be without traffic. Default 5m.
    #[serde(default = "Listener::stream_idle_timeout")]
    pub stream_idle_timeout: Duration,
    /// Policies of all routes of this listener that don't choose their own.
    #[serde(default)]
    pub policies: PolicyRefs,
    /// How the filters run that apply the policies. A policy means the same either way, and a change drains no connection.
    /// Default `wasm`.
    #[serde(default)]
    pub filters: Filters,
    /// Virtual hosts, told apart by the `Host` header.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Whether Envoys fetch a virtual host only once a request needs it: for thousands of virtual hosts of which each Envoy
    /// sees few. The first request for a host waits for it. An Envoy gets 10000 hosts at most; with wildcards in `hosts`,
    /// each host that they match counts. Needs delta xDS.
    #[serde(default)]
    pub on_demand: bool,
}

impl Listener {
    /// The default.
    pub fn request_headers_timeout() -> Duration {
        Duration::from_millis(10_000)
    }

    /// The default.
    pub fn stream_idle_timeout() -> Duration {
        Duration::from_millis(300_000)
    }
}

/// How filters run. It is the same code, with the same configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filters {
    /// As WebAssembly, in a sandbox. Needs nothing on the Envoys' disks.
    #[default]
    Wasm,
    /// As a library in Envoy's process: about a third of the cost, and without a sandbox. Every Envoy needs
    /// `libtollgate_gateway.so`, made by `make native`, in the folder that its environment variable
    /// `ENVOY_DYNAMIC_MODULES_SEARCH_PATH` names, and `native.yaml` beside its bootstrap, and must be of the version that the
    /// library was made for: Envoy itself only warns. An Envoy that can't load it refuses the change and goes on as before; one
    /// that has yet to get its first filters answers 500 to all requests.
    Native,
}

/// Which policies apply, and what they require here. What is left out is inherited: listener, then virtual host, then
/// route. A route with `auth: none` requires nothing that it inherits.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRefs {
    /// Name under `policies.auth`, or `none`.
    pub auth: Option<PolicyRef>,
    /// Name under `policies.rate_limit`, or `none`.
    pub rate_limit: Option<PolicyRef>,
    /// Scopes that a caller must have, all of them; else 403. They come on top of what the auth policy requires, and an API
    /// key's are in its `claims`, as a token's. `[]` is none. Nobody passes without them: neither by `optional` nor by
    /// `on_failure: allow`.
    pub required_scopes: Option<Vec<String>>,
    /// Claims that must have one of the values; else 403. As for `required_scopes`.
    pub required_claims: Option<Vec<RequiredClaim>>,
}

impl PolicyRefs {
    /// These, and what they leave out from `outer`.
    pub fn or(&self, outer: &Self) -> Self {
        Self {
            auth: self.auth.clone().or_else(|| outer.auth.clone()),
            rate_limit: self.rate_limit.clone().or_else(|| outer.rate_limit.clone()),
            required_scopes: self.required_scopes.clone().or_else(|| outer.required_scopes.clone()),
            required_claims: self.required_claims.clone().or_else(|| outer.required_claims.clone()),
        }
    }
}

/// A set of host names and their routes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualHost {
    /// Name, once per listener.
    pub name: Name,
    /// Host names: exact (`api.example.com`), a suffix (`*.example.com`) or a prefix (`api.*`) wildcard, or
    /// `*` for all others. The port is not compared.
    pub hosts: Vec<String>,
    /// Policies of all routes of this host that don't choose their own.
    #[serde(default)]
    pub policies: PolicyRefs,
    /// Header changes on all routes of this host, after the route's own.
    #[serde(default)]
    pub headers: HeaderChanges,
    /// Routes, in order: the first that matches is taken.
    pub routes: Vec<Route>,
}

/// What to do with the requests that match. Exactly one of `to`, `redirect` and `respond`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name, once per virtual host. Shown in logs and metrics, and a key part of rate limits; left out, it is
    /// made from the match.
    pub name: Option<Name>,
    /// Which requests.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Send to a cluster, or to several by weight. Short form: `to: api`.
    #[serde(default, deserialize_with = "short_form::destinations")]
    #[schemars(with = "Option<short_form::OneOrMany<Name, Destination>>")]
    pub to: Vec<Destination>,
    /// Answer with a redirect.
    pub redirect: Option<Redirect>,
    /// Answer from Envoy.
    pub respond: Option<DirectResponse>,
    /// Change path or host before the request is sent on.
    pub rewrite: Option<Rewrite>,
    /// How long the whole answer may take, retries included. Default 15s; for an `api_listener`, as long as the client
    /// allows.
    pub timeout: Option<Duration>,
    /// When and how often to try again.
    pub retry: Option<Retry>,
    /// Header changes.
    #[serde(default)]
    pub headers: HeaderChanges,
    /// Policies of this route.
    #[serde(default)]
    pub policies: PolicyRefs,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The path, without query.
    pub path: PathMatch,
    /// Methods, any of them. Empty: all.
    #[serde(default)]
    pub methods: Vec<Method>,
    /// Request headers, all of them.
    #[serde(default, deserialize_with = "short_form::unique")]
    pub headers: BTreeMap<HeaderName, ValueMatch>,
    /// Query parameters, all of them.
    #[serde(default)]
    pub query: BTreeMap<String, ValueMatch>,
}

/// How a path is compared. Case counts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path.
    Exact(Path),
    /// How the path starts. `/v1` takes `/v1`, `/v1/x` and `/v1x`; write `/v1/` for whole segments.
    Prefix(Path),
    /// A regular expression (RE2) for the whole path.
    Regex(Regex),
}

/// HTTP methods (RFC 9110 section 9, RFC 5789).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
}

impl Method {
    /// As in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
        }
    }
}

/// How a header or query parameter is compared.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueMatch {
    /// The whole value.
    Exact(String),
    /// How the value starts.
    Prefix(String),
    /// How the value ends.
    Suffix(String),
    /// What the value holds.
    Contains(String),
    /// A regular expression (RE2) for the whole value.
    Regex(Regex),
    /// Whether there is any value.
    Present(bool),
}

/// A cluster and its share of the requests. Short form: the cluster's name.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Name under `clusters`.
    pub cluster: Name,
    /// Share, in proportion to the other weights of the route. Default 1.
    #[serde(default = "Destination::weight")]
    pub weight: u32,
}

impl Destination {
    fn weight() -> u32 {
        1
    }
}

/// A redirect. What is left out stays as in the request.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Whether to change the scheme to https.
    #[serde(default)]
    pub https: bool,
    /// New host.
    pub host: Option<HeaderValue>,
    /// New port.
    pub port: Option<u16>,
    /// New path, whole.
    pub path: Option<Path>,
    /// What replaces the matched prefix. Needs `match: {path: {prefix: …}}`.
    pub prefix: Option<Path>,
    /// Status: 301, 302, 303, 307 or 308. Default 301.
    pub status: Option<u16>,
}

/// An answer that Envoy gives itself.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DirectResponse {
    /// Status, 200 to 599.
    pub status: u16,
    /// Body, at most 4096 bytes.
    pub body: Option<String>,
    /// `Content-Type` of the body. Default `text/plain; charset=utf-8`.
    pub content_type: Option<HeaderValue>,
}

/// Changes to path and host before a request is sent on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// What replaces the matched prefix, or the whole path where the match is exact.
    pub prefix: Option<Path>,
    /// Replace by a regular expression.
    pub regex: Option<RegexRewrite>,
    /// New `Host`.
    pub host: Option<HeaderValue>,
}

/// A replacement by regular expression.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegexRewrite {
    /// What to look for in the path (RE2).
    pub pattern: Regex,
    /// What to put there; `\1` is the first group.
    pub substitution: HeaderValue,
}

/// When and how often a request is tried again.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// What is tried again.
    pub on: Vec<RetryOn>,
    /// How often, beside the first try: 1 to 10.
    pub attempts: u32,
    /// How long one try may take.
    pub per_try_timeout: Option<Duration>,
    /// Pause before the first retry; it doubles, with jitter, up to ten times. Default 25ms.
    pub backoff: Option<Duration>,
}

/// What is tried again, in Envoy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// Any 5xx answer, or none.
    #[serde(rename = "5xx")]
    ServerError,
    /// 502, 503 or 504.
    GatewayError,
    /// The upstream closed or reset the stream before answering.
    Reset,
    /// No connection could be made.
    ConnectFailure,
    /// The upstream refused the stream (HTTP/2 `REFUSED_STREAM`).
    RefusedStream,
    /// 409.
    #[serde(rename = "retriable-4xx")]
    Retriable4xx,
    /// gRPC status 1.
    Cancelled,
    /// gRPC status 4.
    DeadlineExceeded,
    /// gRPC status 13.
    Internal,
    /// gRPC status 8.
    ResourceExhausted,
    /// gRPC status 14.
    Unavailable,
}

impl RetryOn {
    /// Envoy's `retry_on` word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerError => "5xx",
            Self::GatewayError => "gateway-error",
            Self::Reset => "reset",
            Self::ConnectFailure => "connect-failure",
            Self::RefusedStream => "refused-stream",
            Self::Retriable4xx => "retriable-4xx",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Internal => "internal",
            Self::ResourceExhausted => "resource-exhausted",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether it is a gRPC status, the only thing that gRPC clients try again.
    pub fn is_grpc(self) -> bool {
        use RetryOn::{Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable};
        matches!(self, Cancelled | DeadlineExceeded | Internal | ResourceExhausted | Unavailable)
    }
}

/// Header changes both ways.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderChanges {
    /// On the request, before it is sent on.
    #[serde(default)]
    pub request: HeaderEdits,
    /// On the response, before it goes back.
    #[serde(default)]
    pub response: HeaderEdits,
}

/// Header changes one way: first removed, then set, then added.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderEdits {
    /// Replace, or make. Envoy's `%…%` commands work; write `%%` for a percent sign.
    #[serde(default, deserialize_with = "short_form::unique")]
    pub set: BTreeMap<HeaderName, HeaderValue>,
    /// Append to what is there.
    #[serde(default, deserialize_with = "short_form::unique")]
    pub add: BTreeMap<HeaderName, HeaderValue>,
    /// Take away.
    #[serde(default)]
    pub remove: Vec<HeaderName>,
}

/// Policies by kind and name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// Who may call.
    #[serde(default)]
    pub auth: BTreeMap<Name, AuthPolicy>,
    /// How often.
    #[serde(default)]
    pub rate_limit: BTreeMap<Name, RateLimitPolicy>,
}
