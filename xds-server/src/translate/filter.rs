//! Policies → the filter of a listener, an ECDS resource, so that a changed policy or key drains no connection.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use serde::Serialize;
use tollgate_filter_config as config;
use tollgate_filter_core::ConfigError;
use tollgate_filter_core::auth::Authenticator;
use tollgate_filter_core::rate_limit::Limiter;

use super::requirement::{required_claim, requirement};
use super::{KeySets, Modules, Target, any, module, named, native, quota, route_policies};
use crate::gateway::model::{
    Algorithm, ApiKeyProvider, AuthPolicy, AuthProvider, Filters, Introspection, JwtProvider, KeyPart, Limit,
    Listener, OnFailure, PlanSource, QuotaHeaders, RateLimitPolicy, Scope,
};
use crate::gateway::position::join;
use crate::gateway::scalar::Name;
use crate::gateway::{Gateway, Problem};
use crate::revocations;

/// The module, by the name of its file: who may call and how often, in one, so that a request pays for one filter.
const GATEWAY: &str = "gateway";

/// The modules of all filters; each is in a file `NAME.wasm`.
pub const MODULES: [&str; 1] = [GATEWAY];

/// How long a lease is, unless the policy says.
const LEASE_MS: u64 = 2_000;

/// How much longer a filter waits for news than a call without news is held.
const REVOCATION_SLACK: Duration = Duration::from_secs(5);

/// A filter of a listener.
pub(super) struct Filter {
    /// ECDS name, and name in the listener's chain.
    pub name: String,
    /// The extension, as ECDS serves it.
    pub config: TypedExtensionConfig,
}

/// The filter of a listener, as the listener that is served has it run: always there, also where no policy applies.
///
/// Connections outlive a listener's change while its routes change at once. A listener that got its filter with
/// its first policy would go on serving the routes of that policy without it, to whoever was connected before.
pub(super) fn filter(name: &Name, listener: &Listener, target: Target<'_>) -> Filter {
    let configuration = config::GatewayConfig {
        auth: auth_config(name, listener, target),
        rate_limit: rate_limit_config(name, target),
    };
    let name = format!("{name}/{GATEWAY}");
    let configuration = json(&configuration);
    let typed_config = match listener.filters {
        Filters::Wasm => {
            any(&module::plugin(&name, GATEWAY, configuration, module::vm(GATEWAY, target.modules)))
        }
        Filters::Native => any(&native::filter(GATEWAY, configuration)),
    };
    let config = TypedExtensionConfig { name: name.clone(), typed_config: Some(typed_config) };
    Filter { name, config }
}

/// What the filters themselves would refuse: asked of their own code, so that no Envoy has to.
pub(super) fn check(gateway: &Gateway, keys: &KeySets) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut note = |kind: &str, name: &Name, error: ConfigError| {
        // Paths of the two configurations agree below the policy, but for the dots.
        let below = error.path.strip_prefix(&format!("policies.{name}")).unwrap_or_default();
        let below = below.replace(['.', '['], "/").replace(']', "");
        let below = in_the_yaml(&below);
        let pointer = format!("{}{below}", join(&format!("/policies/{kind}"), name.as_str()));
        problems.push(Problem::value(pointer, format!("the filter refuses it: {}", error.reason)).secret());
    };
    for (name, policy) in &gateway.policies.auth {
        let policies = BTreeMap::from([(name.to_string(), auth_policy(name, policy, keys))]);
        let config = config::AuthConfig { policies, ..no_auth() };
        if let Err(error) = Authenticator::new(&config, 0) {
            note("auth", name, error);
        }
    }
    for (name, policy) in &gateway.policies.rate_limit {
        let policies = BTreeMap::from([(name.to_string(), rate_limit_policy(name, policy))]);
        if let Err(error) = Limiter::new(&config::RateLimitConfig { policies, quota: None }) {
            note("rate_limit", name, error);
        }
    }
    problems
}

/// The first limit of a policy stands in the policy itself, the others in its `also`.
fn in_the_yaml(below: &str) -> String {
    let Some((index, field)) = below.strip_prefix("/limits/").and_then(|rest| rest.split_once('/')) else {
        return below.to_owned();
    };
    match index.parse::<usize>() {
        Ok(index) if index > 0 => format!("/also/{}/{field}", index - 1),
        _ => format!("/{field}"),
    }
}

/// Everything of that kind that routes of this listener use in any gateway that is present.
fn used<'a, P>(
    name: &Name,
    target: Target<'a>,
    pick: impl Fn(&super::PolicyRefs) -> Option<&Name>,
    policies: impl Fn(&'a Gateway) -> &'a BTreeMap<Name, P>,
) -> BTreeMap<&'a Name, &'a P> {
    let mut used = BTreeMap::new();
    for gateway in target.present {
        let Some(listener) = gateway.listeners.get(name) else { continue };
        let names: BTreeSet<Name> =
            route_policies(listener).filter_map(|refs| pick(&refs).cloned()).collect();
        used.extend(names.iter().filter_map(|name| policies(gateway).get_key_value(name)));
    }
    used
}

fn auth_config(name: &Name, listener: &Listener, target: Target<'_>) -> config::AuthConfig {
    let policies = used(name, target, |refs| named(&refs.auth), |gateway| &gateway.policies.auth);
    let mut providers = policies.values().flat_map(|policy| policy.providers().1);
    let revocations = providers.any(|provider| provider.revocations().is_some()).then(revocation_service);
    config::AuthConfig {
        trust_identity_headers: listener.trust_identity_headers,
        claim_headers: claim_headers(target).into_iter().map(str::to_owned).collect(),
        claims: limited_claims(name, target).into_iter().collect(),
        policies: policies
            .into_iter()
            .map(|(name, policy)| (name.to_string(), auth_policy(name, policy, target.keys)))
            .collect(),
        revocations,
        requirements: target
            .present
            .iter()
            .filter_map(|gateway| gateway.listeners.get(name))
            .flat_map(route_policies)
            .filter_map(|policies| requirement(&policies))
            .collect(),
    }
}

/// Who tells the filters: the server of the quota service.
fn revocation_service() -> config::RevocationService {
    let timeout = revocations::HOLD.as_millis() + REVOCATION_SLACK.as_millis();
    config::RevocationService {
        cluster: quota::CLUSTER.into(),
        path: revocations::PATH.into(),
        timeout_ms: u64::try_from(timeout).unwrap_or(u64::MAX),
    }
}

/// Claims that limits of this listener are by.
fn limited_claims(name: &Name, target: Target<'_>) -> BTreeSet<String> {
    let policies = used(name, target, |refs| named(&refs.rate_limit), |gateway| &gateway.policies.rate_limit);
    let limits = policies.into_iter().flat_map(|(name, policy)| policy.limits(name.as_str()));
    limits
        .flat_map(|(_, limit, _)| {
            let parts = limit.key.into_iter().filter_map(|part| match part {
                KeyPart::Claim(claim) => Some(claim),
                _ => None,
            });
            let plan = limit.plans.and_then(|plans| match plans.by {
                PlanSource::Claim(claim) => Some(claim),
                PlanSource::Header(_) => None,
            });
            parts.chain(plan)
        })
        .collect()
}

/// Headers that some policy copies claims to.
fn claim_headers(target: Target<'_>) -> BTreeSet<&str> {
    let policies = target.present.iter().flat_map(|gateway| gateway.policies.auth.values());
    let providers = policies.flat_map(|policy| policy.providers().1);
    providers
        .flat_map(|provider| match provider {
            AuthProvider::Jwt(jwt) => jwt.claims_to_headers.as_slice(),
            AuthProvider::ApiKey(_) => &[],
        })
        .map(|copy| copy.header.as_str())
        .collect()
}

fn auth_policy(name: &Name, policy: &AuthPolicy, keys: &KeySets) -> config::AuthPolicy {
    config::AuthPolicy {
        optional: policy.optional,
        on_failure: match policy.on_failure {
            OnFailure::Deny => config::OnFailure::Deny,
            OnFailure::Allow => config::OnFailure::Allow,
        },
        realm: policy.realm.as_ref().map_or(name.as_str(), |realm| realm.as_str()).to_owned(),
        any_of: providers(&policy.any_of, keys),
        all_of: providers(&policy.all_of, keys),
    }
}

fn providers(providers: &[AuthProvider], keys: &KeySets) -> Vec<config::AuthProvider> {
    let provider = |provider: &AuthProvider| match provider {
        AuthProvider::Jwt(jwt) => config::AuthProvider::Jwt(jwt_provider(jwt, keys)),
        AuthProvider::ApiKey(api_key) => config::AuthProvider::ApiKey(api_key_provider(api_key)),
    };
    providers.iter().map(provider).collect()
}

fn jwt_provider(jwt: &JwtProvider, keys: &KeySets) -> config::JwtProvider {
    let algorithm = |algorithm: &Algorithm| match algorithm {
        Algorithm::RS256 => config::Algorithm::RS256,
        Algorithm::RS384 => config::Algorithm::RS384,
        Algorithm::RS512 => config::Algorithm::RS512,
        Algorithm::PS256 => config::Algorithm::PS256,
        Algorithm::PS384 => config::Algorithm::PS384,
        Algorithm::PS512 => config::Algorithm::PS512,
        Algorithm::ES256 => config::Algorithm::ES256,
        Algorithm::ES384 => config::Algorithm::ES384,
        Algorithm::ES512 => config::Algorithm::ES512,
        Algorithm::EdDSA => config::Algorithm::EdDSA,
        Algorithm::HS256 => config::Algorithm::HS256,
        Algorithm::HS384 => config::Algorithm::HS384,
        Algorithm::HS512 => config::Algorithm::HS512,
    };
    config::JwtProvider {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audiences.clone(),
        algorithms: jwt.algorithms.iter().map(algorithm).collect(),
        jwks: keys.get(&jwt.jwks),
        clock_skew_seconds: jwt.clock_skew.as_millis().div_ceil(1_000),
        header: jwt.header.as_str().to_owned(),
        prefix: jwt.prefix.clone().unwrap_or_else(|| "Bearer ".into()),
        required_scopes: jwt.required_scopes.clone(),
        required_claims: jwt.required_claims.iter().map(required_claim).collect(),
        claims_to_headers: jwt
            .claims_to_headers
            .iter()
            .map(|copy| config::ClaimToHeader {
                claim: copy.claim.clone(),
                header: copy.header.as_str().to_owned(),
            })
            .collect(),
        forward: jwt.forward,
        revocations: jwt.revocations.as_ref().map(|list| list.url.clone()),
    }
}

fn api_key_provider(provider: &ApiKeyProvider) -> config::ApiKeyProvider {
    let introspection = |introspection: &Introspection| config::Introspection {
        cluster: introspection.cluster.to_string(),
        authority: introspection.cluster.to_string(),
        path: introspection.path.as_ref().map_or("/internal/v1/introspect", |path| path.as_str()).to_owned(),
        timeout_ms: introspection.timeout.as_millis(),
        positive_ttl_ms: introspection.positive_ttl.as_millis(),
        negative_ttl_ms: introspection.negative_ttl.as_millis(),
        cache_size: introspection.cache_size as usize,
    };
    config::ApiKeyProvider {
        header: provider.header.as_str().to_owned(),
        keys: provider
            .keys
            .iter()
            .map(|key| config::ApiKey {
                sha256: key.sha256.clone(),
                consumer: key.consumer.as_str().to_owned(),
                id: key.id.as_ref().map_or(&key.sha256[..12], |id| id.as_str()).to_owned(),
                claims: key.claims.clone(),
            })
            .collect(),
        introspection: provider.introspection.as_ref().map(introspection),
        forward: provider.forward,
        revocations: provider.revocations.as_ref().map(|list| list.url.clone()),
    }
}

fn rate_limit_config(name: &Name, target: Target<'_>) -> config::RateLimitConfig {
    let policies = used(name, target, |refs| named(&refs.rate_limit), |gateway| &gateway.policies.rate_limit);
    let policies =
        policies.into_iter().map(|(name, policy)| (name.to_string(), rate_limit_policy(name, policy)));
    let policies: BTreeMap<String, config::RateLimitPolicy> = policies.collect();
    let mut limits = policies.values().flat_map(|policy| &policy.limits);
    let quota = limits.any(|limit| limit.global.is_some()).then(|| config::QuotaService {
        cluster: quota::CLUSTER.into(),
        timeout_ms: u64::try_from(target.quota.timeout.as_millis()).unwrap_or(u64::MAX),
    });
    config::RateLimitConfig { policies, quota }
}

fn rate_limit_policy(name: &Name, policy: &RateLimitPolicy) -> config::RateLimitPolicy {
    config::RateLimitPolicy {
        limits: policy.limits(name.as_str()).map(|limit| self::limit(policy, limit)).collect(),
        headers: match policy.headers {
            QuotaHeaders::Always => config::QuotaHeaders::Always,
            QuotaHeaders::Limited => config::QuotaHeaders::Limited,
        },
    }
}

fn limit(policy: &RateLimitPolicy, (name, limit, scope): (String, Limit, Scope)) -> config::Limit {
    let plans = limit.plans.as_ref().map(|plans| config::Plans {
        by: match &plans.by {
            PlanSource::Claim(claim) => config::PlanSource::Claim(claim.clone()),
            PlanSource::Header(header) => config::PlanSource::Header(header.as_str().to_owned()),
        },
        limits: plans
            .limits
            .keys()
            .cloned()
            // After the limit's own bucket, those of its plans come in the same order.
            .zip(limit.buckets(&name).skip(1))
            .map(|(plan, (name, rate, burst))| {
                let (limit, period_ms) = (rate.requests, rate.period.as_millis());
                (plan, config::PlanLimit { name, limit, period_ms, burst })
            })
            .collect(),
    });
    let part = |part: &KeyPart| match part {
        KeyPart::Consumer => config::KeyPart::Consumer,
        KeyPart::ClientAddress => config::KeyPart::ClientAddress,
        KeyPart::Route => config::KeyPart::Route,
        KeyPart::Method => config::KeyPart::Method,
        KeyPart::Header(name) => config::KeyPart::Header(name.as_str().to_owned()),
        KeyPart::Claim(name) => config::KeyPart::Claim(name.clone()),
        KeyPart::Path(template) => config::KeyPart::Path(template.clone()),
    };
    config::Limit {
        name,
        key: limit.key.iter().map(part).collect(),
        limit: limit.limit.requests,
        period_ms: limit.limit.period.as_millis(),
        burst: limit.burst.unwrap_or(limit.limit.requests),
        cost: limit.cost,
        shadow: limit.shadow,
        global: (scope == Scope::Global).then(|| config::GlobalLimit {
            lease_ms: policy.lease.map_or(LEASE_MS, |lease| lease.as_millis()),
            alone_percent: match policy.on_failure.unwrap_or_default() {
                OnFailure::Deny => None,
                OnFailure::Allow => Some(policy.failure_share.unwrap_or(100)),
            },
        }),
        plans,
    }
}

/// Nobody is known, and nobody need be.
fn no_auth() -> config::AuthConfig {
    config::AuthConfig {
        trust_identity_headers: false,
        claim_headers: Vec::new(),
        claims: Vec::new(),
        policies: BTreeMap::new(),
        revocations: None,
        requirements: BTreeMap::new(),
    }
}

fn json(configuration: &impl Serialize) -> String {
    serde_json::to_string(configuration).unwrap_or_default()
}

/// The clusters by which the modules of all filters arrive.
pub(super) fn module_clusters(modules: &Modules) -> Vec<Cluster> {
    let nothing = config::GatewayConfig {
        auth: no_auth(),
        rate_limit: config::RateLimitConfig { policies: BTreeMap::new(), quota: None },
    };
    module::clusters(modules, [(GATEWAY, json(&nothing))])
}
