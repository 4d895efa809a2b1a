//! What routes require beyond their policy: of tokens and of keys, and never left out.

use serde_json::{Value, json};
use tollgate_filter_config::{AuthConfig, AuthProvider, OnFailure, RequiredClaim, Requirement};

use super::{alice, api_keys, bearer, config, jwt, service, tokens};
use crate::case::{Answer, Case, Expect, Step};
use crate::keys::{Keys, sha256_hex};
use crate::token::Token;

pub(super) fn cases(keys: &Keys, now: u64) -> Vec<Case> {
    let token = || Token::rs256(now);
    let good = token().sign_rsa(keys);
    let reader = token().claim("scope", "read").sign_rsa(keys);
    let scopes = || requiring(tokens(keys), &["read", "write"], &[]);
    let plan = |plan: &str| requiring(tokens(keys), &[], &[plan, "platinum"]);
    let case = |name: &str, config: AuthConfig, token: Token, expect: Expect| {
        Case::auth(name, config, [on_required(token.sign_rsa(keys), expect)])
    };
    let mut optional = scopes();
    optional.policies.values_mut().for_each(|policy| policy.optional = true);
    let mut open = requiring(config([AuthProvider::Jwt(jwt(None))]), &["read"], &[]);
    open.policies.values_mut().for_each(|policy| policy.on_failure = OnFailure::Allow);
    let scp = token().claim("scope", Value::Null).claim("scp", json!(["write", "read"]));
    let mut cases = vec![
        case("a token with the scopes that its route requires passes", scopes(), token(), alice()),
        case("scopes that a route requires may be a list", scopes(), scp, alice()),
        case("a token with the claim that its route requires passes", plan("gold"), token(), alice()),
        case(
            "a token whose claim is not what its route requires is 403",
            plan("silver"),
            token(),
            forbidden(),
        ),
        Case::auth(
            "a token that one route takes is 403 on another, however often it was seen",
            scopes(),
            [
                bearer(&reader, alice()),
                on_required(&reader, lacks("Bearer")),
                bearer(&reader, alice()),
                on_required(&reader, lacks("Bearer")),
                on_required(&good, alice()),
            ],
        ),
        Case::auth(
            "a route whose requirement is unknown lets nobody through",
            scopes(),
            [Step::on("lost", Expect::refused(503, "unknown_policy").client("retry-after", "1"))
                .header("authorization", format!("Bearer {good}"))],
        ),
        Case::auth(
            "where auth is optional, nobody passes a route that requires something",
            optional,
            [
                Step::on("main", Expect::passes()),
                Step::on("required", Expect::refused(401, "missing_credential"))
                    .header("x-consumer-id", "alice"),
                on_required(&reader, lacks("Bearer")),
                on_required(&good, alice()),
            ],
        ),
        Case::auth(
            "what can't be checked passes no route that requires something",
            open,
            [bearer(&good, Expect::passes()), on_required(&good, Expect::refused(503, "jwks_unavailable"))],
        ),
    ];
    cases.extend(of_keys());
    cases
}

fn of_keys() -> Vec<Case> {
    let key = |name: &str, expect| Step::on("required", expect).header("x-api-key", name);
    let mut known = api_keys(None);
    known.keys[0].claims = [("scope".to_owned(), json!("read write"))].into_iter().collect();
    let answer = |scope: &str| Answer::Response {
        status: 200,
        body: format!(
            r#"{{"active":true,"consumer":"carol","key_id":"k-7","claims":{{"scope":"{scope}","plan":{{"name":"gold"}}}}}}"#
        ),
    };
    let asking = || config([AuthProvider::ApiKey(api_keys(Some(service())))]);
    let carol = || Expect::passes().upstream("x-consumer-id", "carol").no_upstream("x-api-key");
    vec![
        Case::auth(
            "a configured key has the scopes of its claims",
            requiring(config([AuthProvider::ApiKey(known)]), &["write"], &[]),
            [key("good-key", Expect::passes().upstream("x-consumer-id", "bob"))],
        ),
        Case::auth(
            "a key without claims has no scopes",
            requiring(config([AuthProvider::ApiKey(api_keys(None))]), &["read", "write"], &[]),
            [key("good-key", lacks("ApiKey"))],
        ),
        Case::auth(
            "introspection tells a key's scopes and claims",
            requiring(asking(), &["read", "write"], &["gold"]),
            [
                key("carols-key", carol()).asking(sha256_hex("carols-key"), answer("write read")),
                key("carols-key", carol()),
                key("weak-key", lacks("ApiKey")).asking(sha256_hex("weak-key"), answer("read")),
                key("weak-key", lacks("ApiKey")),
                Step::on("main", carol()).header("x-api-key", "weak-key"),
            ],
        ),
    ]
}

fn requiring(config: AuthConfig, scopes: &[&str], plans: &[&str]) -> AuthConfig {
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let claims = match plans {
        [] => Vec::new(),
        plans => vec![RequiredClaim { claim: "plan.name".to_owned(), any_of: list(plans) }],
    };
    let requirement = Requirement { scopes: list(scopes), claims };
    AuthConfig { requirements: [("r".to_owned(), requirement)].into(), ..config }
}

fn on_required(token: impl AsRef<str>, expect: Expect) -> Step {
    Step::on("required", expect).header("authorization", format!("Bearer {}", token.as_ref()))
}

fn lacks(scheme: &str) -> Expect {
    Expect::refused(403, "insufficient_scope")
        .client_has("www-authenticate", &format!(r#"{scheme} realm="tollgate", error="insufficient_scope""#))
        .client_has("www-authenticate", r#"scope="read write""#)
        .client("content-type", "application/problem+json")
}

fn forbidden() -> Expect {
    Expect::refused(403, "insufficient_claims").client_has("www-authenticate", "insufficient_scope")
}
