//! Rate limit policies: how often.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::OnFailure;
use crate::gateway::scalar::{Duration, HeaderName, Rate};

/// How often: a token bucket for each key. Over the limit, a request gets 429 with `Retry-After`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitPolicy {
    /// What is counted apart. Default `[client_address]`; `[]` is one bucket for all.
    #[serde(default = "RateLimitPolicy::key")]
    pub key: Vec<KeyPart>,
    /// How fast the bucket refills: `100/s`, `5000/m`, `20/10s`, `10000/d`, `100000/mo` (30 days).
    pub limit: Rate,
    /// How many requests may come at once. Default: the requests of `limit`.
    pub burst: Option<u64>,
    /// How many requests one counts as. Default 1.
    #[serde(default = "RateLimitPolicy::cost")]
    pub cost: u64,
    /// Whether it only counts what it would refuse (`tollgate.rate_limit.shadowed`). Default false.
    #[serde(default)]
    pub shadow: bool,
    /// Other limits for callers who have a plan.
    pub plans: Option<Plans>,
    /// Further limits that must hold as well. What one refuses costs the others nothing.
    #[serde(default)]
    pub also: Vec<Limit>,
    /// Who shares the buckets, of further limits, too. Default `local`.
    #[serde(default)]
    pub scope: Scope,
    /// With `scope: global`, for how long a worker of an Envoy may use the tokens that it was granted; after that, those
    /// it did not use go back. Default 2s.
    pub lease: Option<Duration>,
    /// With `scope: global`, what happens to requests while the quota service or its Redis can't be reached and the
    /// tokens granted before are used up: `deny` answers 503, `allow` has each Envoy count on its own. Default `deny`.
    pub on_failure: Option<OnFailure>,
    /// With `on_failure: allow`, the share of the limit that each Envoy then allows on its own, in percent. With N
    /// Envoys, up to N times this share of the limit may pass. Default 100.
    pub failure_share: Option<u32>,
    /// Which responses tell what is left, as `RateLimit`, `RateLimit-Policy` and `X-RateLimit-*`. Default `always`.
    #[serde(default)]
    pub headers: QuotaHeaders,
}

/// A further limit.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// What is counted apart. Default `[client_address]`; `[]` is one bucket for all.
    #[serde(default = "RateLimitPolicy::key")]
    pub key: Vec<KeyPart>,
    /// How fast the bucket refills: `100/s`, `10000/d`, `100000/mo` (30 days).
    pub limit: Rate,
    /// How many requests may come at once. Default: the requests of `limit`.
    pub burst: Option<u64>,
    /// How many requests one counts as. Default 1.
    #[serde(default = "RateLimitPolicy::cost")]
    pub cost: u64,
    /// Whether it only counts what it would refuse. Default false.
    #[serde(default)]
    pub shadow: bool,
    /// Other limits for callers who have a plan.
    pub plans: Option<Plans>,
    /// Who shares the bucket. Default: as the policy has it.
    pub scope: Option<Scope>,
}

/// Limits by plan: `{ by: { claim: plan }, limits: { gold: { limit: 1000/s, burst: 2000 } } }`. Responses tell a caller the
/// limit of its plan, as `POLICY:PLAN`. Each plan has buckets of its own: who changes it begins with a full one.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plans {
    /// Where a request's plan stands.
    pub by: PlanSource,
    /// By the plan's name. Who has no plan, or one that is not here, has the limit that stands beside `plans`.
    pub limits: BTreeMap<String, PlanLimit>,
}

/// Where a request's plan stands.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanSource {
    /// In a claim of the token or API key; dots step into objects: `{claim: plan}`.
    Claim(String),
    /// In a request header that something trusted sets, such as `claims_to_headers`: `{header: x-plan}`. Of a header that
    /// clients may set, they choose their plan.
    Header(HeaderName),
}

/// The limit of a plan.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanLimit {
    /// How fast the bucket refills.
    pub limit: Rate,
    /// How many requests may come at once. Default: the requests of `limit`.
    pub burst: Option<u64>,
}

impl Limit {
    /// Its buckets' names beyond the YAML, rates and bursts: its own, which is called `name`, then those of its plans, which
    /// are `name:PLAN`. No name in the YAML holds a colon.
    pub fn buckets(&self, name: &str) -> impl Iterator<Item = (String, Rate, u64)> {
        let own = (name.to_owned(), self.limit, self.burst.unwrap_or(self.limit.requests));
        let plans = self.plans.iter().flat_map(|plans| &plans.limits);
        let plans = plans.map(move |(plan, PlanLimit { limit, burst })| {
            (format!("{name}:{plan}"), *limit, burst.unwrap_or(limit.requests))
        });
        std::iter::once(own).chain(plans)
    }
}

/// Which responses tell a caller its quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuotaHeaders {
    /// All.
    #[default]
    Always,
    /// Those of refused requests, which saves Envoy about 2 µs for each of the others.
    Limited,
}

impl RateLimitPolicy {
    /// All its limits, with who shares each, and the names they have beyond the YAML: that of the policy, which is called
    /// `name`, then `NAME/2` and so on. No name in the YAML holds a slash, so none is ever like that of a further limit.
    pub fn limits(&self, name: &str) -> impl Iterator<Item = (String, Limit, Scope)> {
        let Self { key, limit, burst, cost, shadow, plans, .. } = self;
        let (key, plans, scope) = (key.clone(), plans.clone(), Some(self.scope));
        let first = Limit { key, limit: *limit, burst: *burst, cost: *cost, shadow: *shadow, plans, scope };
        let further =
            (2..).zip(&self.also).map(move |(number, also)| (format!("{name}/{number}"), also.clone()));
        let all = std::iter::once((name.to_owned(), first)).chain(further);
        all.map(|(name, limit)| {
            let scope = limit.scope.unwrap_or(self.scope);
            (name, limit, scope)
        })
    }

    /// Whether other Envoys share one of its buckets.
    pub fn is_shared(&self) -> bool {
        let further = self.also.iter().filter_map(|limit| limit.scope);
        std::iter::once(self.scope).chain(further).any(|scope| scope == Scope::Global)
    }

    fn key() -> Vec<KeyPart> {
        vec![KeyPart::ClientAddress]
    }

    fn cost() -> u64 {
        1
    }
}

/// One part of a rate limit's key.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    /// Who the auth policy found; the client address where nobody is known.
    Consumer,
    /// Address of the client behind the trusted hops.
    ClientAddress,
    /// The route's name.
    Route,
    /// The request's method.
    Method,
    /// A request header: `{header: x-tenant}`. Requests without it share a bucket.
    Header(HeaderName),
    /// A claim of the token or API key; dots step into objects: `{claim: org.id}`. Requests without it share a bucket.
    Claim(String),
    /// What stands in the braces of a path template: `{path: "/v1/orders/{id}"}` counts each order apart. A segment is text,
    /// `{name}` or `*`, and the last may be `**` for any that follow. Requests whose path is not like it share a bucket.
    Path(String),
}

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All workers of one Envoy.
    #[default]
    Local,
    /// All Envoys that ask the same quota service, or quota services on the same Redis. Together, and from a cold start
    /// on, they admit no more than the limit and the burst.
    Global,
}
