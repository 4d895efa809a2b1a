//! Policies → the Wasm filters of a listener, each an ECDS resource, so that a changed policy or key drains
//! no connection.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use serde::Serialize;
use tollgate_filter_config as config;
use tollgate_filter_core::ConfigError;
use tollgate_filter_core::auth::Authenticator;
use tollgate_filter_core::rate_limit::Limiter;

use super::{KeySets, Modules, Target, any, module, named, route_policies};
use crate::gateway::model::{
    Algorithm, ApiKeyProvider, AuthPolicy, AuthProvider, Introspection, JwtProvider, KeyPart, Listener,
    RateLimitPolicy,
};
use crate::gateway::position::join;
use crate::gateway::scalar::Name;
use crate::gateway::{Gateway, Problem};

/// Modules, by the names of their files.
const AUTH: &str = "auth";
pub(super) const RATE_LIMIT: &str = "rate_limit";

/// The modules of all filters; each is in a file `NAME.wasm`.
pub const MODULES: [&str; 2] = [AUTH, RATE_LIMIT];

/// Name of a filter in its listener's chain, and of its ECDS resource.
pub(super) fn filter_name(listener: &Name, module: &str) -> String {
    format!("{listener}/{module}")
}

/// A filter of a listener.
pub(super) struct Filter {
    /// ECDS name, and name in the listener's chain.
    pub name: String,
    /// The extension, as ECDS serves it.
    pub config: TypedExtensionConfig,
}

/// The filters of every listener, in order: always both, also where no policy applies.
///
/// Connections outlive a listener's change while its routes change at once. A listener that got its filters with
/// its first policy would go on serving the routes of that policy without them, to whoever was connected before.
pub(super) fn filters(name: &Name, listener: &Listener, target: Target<'_>) -> Vec<Filter> {
    let auth = auth_config(name, listener, target);
    let rate_limit = rate_limit_config(name, target);
    vec![filter(name, AUTH, &auth, target), filter(name, RATE_LIMIT, &rate_limit, target)]
}

/// What the filters themselves would refuse: asked of their own code, so that no Envoy has to.
pub(super) fn check(gateway: &Gateway, keys: &KeySets) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut note = |kind: &str, name: &Name, error: ConfigError| {
        // Paths of the two configurations agree below the policy, but for the dots.
        let below = error.path.strip_prefix(&format!("policies.{name}")).unwrap_or_default();
        let below = below.replace(['.', '['], "/").replace(']', "");
        let pointer = format!("{}{below}", join(&format!("/policies/{kind}"), name.as_str()));
        problems.push(Problem::value(pointer, format!("the filter refuses it: {}", error.reason)).secret());
    };
    for (name, policy) in &gateway.policies.auth {
        let policies = BTreeMap::from([(name.to_string(), auth_policy(name, policy, keys))]);
        let config =
            config::AuthConfig { trust_identity_headers: false, claim_headers: Vec::new(), policies };
        if let Err(error) = Authenticator::new(&config, 0) {
            note("auth", name, error);
        }
    }
    for (name, policy) in &gateway.policies.rate_limit {
        let policies = BTreeMap::from([(name.to_string(), rate_limit_policy(policy))]);
        if let Err(error) = Limiter::new(&config::RateLimitConfig { policies }) {
            note("rate_limit", name, error);
        }
    }
    problems
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
    config::AuthConfig {
        trust_identity_headers: listener.trust_identity_headers,
        claim_headers: claim_headers(target).into_iter().map(str::to_owned).collect(),
        policies: policies
            .into_iter()
            .map(|(name, policy)| (name.to_string(), auth_policy(name, policy, target.keys)))
            .collect(),
    }
}

/// Headers that some policy copies claims to.
fn claim_headers(target: Target<'_>) -> BTreeSet<&str> {
    let policies = target.present.iter().flat_map(|gateway| gateway.policies.auth.values());
    let providers = policies.flat_map(|policy| &policy.any_of);
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
        realm: policy.realm.as_ref().map_or(name.as_str(), |realm| realm.as_str()).to_owned(),
        any_of: policy
            .any_of
            .iter()
            .map(|provider| match provider {
                AuthProvider::Jwt(jwt) => config::AuthProvider::Jwt(jwt_provider(jwt, keys)),
                AuthProvider::ApiKey(api_key) => config::AuthProvider::ApiKey(api_key_provider(api_key)),
            })
            .collect(),
    }
}

fn jwt_provider(jwt: &JwtProvider, keys: &KeySets) -> config::JwtProvider {
    let algorithm = |algorithm: &Algorithm| match algorithm {
        Algorithm::RS256 => config::Algorithm::RS256,
        Algorithm::ES256 => config::Algorithm::ES256,
        Algorithm::EdDSA => config::Algorithm::EdDSA,
        Algorithm::HS256 => config::Algorithm::HS256,
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
        claims_to_headers: jwt
            .claims_to_headers
            .iter()
            .map(|copy| config::ClaimToHeader {
                claim: copy.claim.clone(),
                header: copy.header.as_str().to_owned(),
            })
            .collect(),
        forward: jwt.forward,
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
            })
            .collect(),
        introspection: provider.introspection.as_ref().map(introspection),
        forward: provider.forward,
    }
}

fn rate_limit_config(name: &Name, target: Target<'_>) -> config::RateLimitConfig {
    let policies = used(name, target, |refs| named(&refs.rate_limit), |gateway| &gateway.policies.rate_limit);
    let policies = policies.into_iter().map(|(name, policy)| (name.to_string(), rate_limit_policy(policy)));
    config::RateLimitConfig { policies: policies.collect() }
}

fn rate_limit_policy(policy: &RateLimitPolicy) -> config::RateLimitPolicy {
    let part = |part: &KeyPart| match part {
        KeyPart::Consumer => config::KeyPart::Consumer,
        KeyPart::ClientAddress => config::KeyPart::ClientAddress,
        KeyPart::Route => config::KeyPart::Route,
        KeyPart::Header(name) => config::KeyPart::Header(name.as_str().to_owned()),
    };
    config::RateLimitPolicy {
        key: policy.key.iter().map(part).collect(),
        limit: policy.limit.requests,
        period_ms: policy.limit.period.as_millis(),
        burst: policy.burst.unwrap_or(policy.limit.requests),
    }
}

/// The Wasm extension that runs `module` with `configuration`.
fn filter<C: Serialize>(listener: &Name, module: &str, configuration: &C, target: Target<'_>) -> Filter {
    let name = filter_name(listener, module);
    let wasm = module::plugin(&name, module, json(configuration), module::vm(module, target.modules));
    let config = TypedExtensionConfig { name: name.clone(), typed_config: Some(any(&wasm)) };
    Filter { name, config }
}

fn json(configuration: &impl Serialize) -> String {
    serde_json::to_string(configuration).unwrap_or_default()
}

/// The clusters by which the modules of all filters arrive.
pub(super) fn module_clusters(modules: &Modules) -> Vec<Cluster> {
    let auth = config::AuthConfig {
        trust_identity_headers: false,
        claim_headers: Vec::new(),
        policies: BTreeMap::new(),
    };
    let rate_limit = config::RateLimitConfig { policies: BTreeMap::new() };
    module::clusters(modules, [(AUTH, json(&auth)), (RATE_LIMIT, json(&rate_limit))])
}
