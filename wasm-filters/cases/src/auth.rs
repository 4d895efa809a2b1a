//! Cases of the auth filter, by what is presented; here is the configuration they share.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tollgate_filter_config::{
    Algorithm, ApiKey, ApiKeyProvider, AuthConfig, AuthPolicy, AuthProvider, ClaimToHeader, Introspection,
    JwtProvider, OnFailure,
};

use crate::case::{Case, Expect, INTROSPECTION_AUTHORITY, INTROSPECTION_CLUSTER, INTROSPECTION_PATH, Step};
use crate::keys::{Keys, sha256_hex};
use crate::token::{AUDIENCE, ISSUER};

mod all_of;
mod api_key;
mod claims;
mod identity;
mod introspection;
mod passing;
mod requirement;
mod signature;

/// All of them.
pub(crate) fn cases(keys: &Keys, now: u64) -> Vec<Case> {
    let mut cases = signature::cases(keys, now);
    cases.extend(claims::cases(keys, now));
    cases.extend(identity::cases(keys, now));
    cases.extend(api_key::cases(keys, now));
    cases.extend(introspection::cases(keys, now));
    cases.extend(passing::cases(keys, now));
    cases.extend(requirement::cases(keys, now));
    cases.extend(all_of::cases(keys, now));
    cases
}

/// A configuration with one policy, `p`.
fn config(any_of: impl IntoIterator<Item = AuthProvider>) -> AuthConfig {
    let policy = AuthPolicy {
        realm: "tollgate".to_owned(),
        any_of: any_of.into_iter().collect(),
        all_of: Vec::new(),
        optional: false,
        on_failure: OnFailure::Deny,
    };
    AuthConfig {
        trust_identity_headers: false,
        claim_headers: Vec::new(),
        claims: Vec::new(),
        policies: [("p".to_owned(), policy)].into(),
        revocations: None,
        requirements: BTreeMap::new(),
    }
}

/// Tokens of the cases' issuer, with `keys`.
fn jwt(jwks: Option<Value>) -> JwtProvider {
    JwtProvider {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        jwks,
        clock_skew_seconds: 600,
        header: "authorization".to_owned(),
        prefix: "Bearer ".to_owned(),
        required_scopes: Vec::new(),
        required_claims: Vec::new(),
        claims_to_headers: vec![
            ClaimToHeader { claim: "plan.name".to_owned(), header: "x-plan".to_owned() },
            ClaimToHeader { claim: "tenant".to_owned(), header: "x-tenant".to_owned() },
        ],
        forward: false,
        revocations: None,
    }
}

/// The policy most cases have: tokens only.
fn tokens(keys: &Keys) -> AuthConfig {
    config([AuthProvider::Jwt(jwt(Some(keys.jwks())))])
}

/// API keys: `good-key` of `bob` is configured.
fn api_keys(introspection: Option<Introspection>) -> ApiKeyProvider {
    let key = ApiKey {
        sha256: sha256_hex("good-key"),
        consumer: "bob".to_owned(),
        id: "k-1".to_owned(),
        claims: Map::new(),
    };
    ApiKeyProvider {
        header: "x-api-key".to_owned(),
        keys: vec![key],
        introspection,
        forward: false,
        revocations: None,
    }
}

/// The service that cases ask about other keys.
fn service() -> Introspection {
    Introspection {
        cluster: INTROSPECTION_CLUSTER.to_owned(),
        authority: INTROSPECTION_AUTHORITY.to_owned(),
        path: INTROSPECTION_PATH.to_owned(),
        timeout_ms: 500,
        positive_ttl_ms: 60_000,
        negative_ttl_ms: 10_000,
        cache_size: 100,
    }
}

/// A request with a bearer token on the guarded route.
fn bearer(token: impl AsRef<str>, expect: Expect) -> Step {
    Step::on("main", expect).header("authorization", format!("Bearer {}", token.as_ref()))
}

/// The upstream knows that alice called with a token, and does not see the token.
fn alice() -> Expect {
    Expect::passes()
        .upstream("x-consumer-id", "alice")
        .upstream("x-credential-type", "jwt")
        .upstream("x-credential-id", "t-1")
        .upstream("x-plan", "gold")
        .no_upstream("authorization")
        .no_upstream("x-tenant")
}

/// 401 with a challenge that says why.
fn invalid_token(why: &str) -> Expect {
    Expect::refused(401, "invalid_token")
        .client_has("www-authenticate", r#"Bearer realm="tollgate", error="invalid_token""#)
        .client_has("www-authenticate", why)
}

/// The case of one token that is refused for this reason.
fn refused(name: &str, config: AuthConfig, token: impl AsRef<str>, why: &str) -> Case {
    Case::auth(name, config, [bearer(token, invalid_token(why))])
}
