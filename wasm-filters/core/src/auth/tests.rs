//! Requests against policies: what goes on, with which headers, and what is answered.

use std::cell::Cell;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;

use super::*;
use crate::headers::Header;
use crate::jwt::Claims;
use crate::signature::{Hash, HostFailure, Native};
use crate::vectors;

mod all_of;
mod requirements;
mod revocations;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: Duration = Duration::from_secs(1_700_000_000);

/// Counts what it is asked, to show what a cache saves.
#[derive(Default)]
struct Counting(Cell<u32>);

impl HostVerifier for Counting {
    fn verify(&self, hash: Hash, key: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, HostFailure> {
        self.0.set(self.0.get() + 1);
        Native.verify(hash, key, message, signature)
    }
}

struct Failing;

impl HostVerifier for Failing {
    fn verify(&self, _: Hash, _: &[u8], _: &[u8], _: &[u8]) -> Result<bool, HostFailure> {
        Err(HostFailure)
    }
}

fn sign_with(secret: &[u8], header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", encode(header), encode(claims));
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(&input).finalize();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))
}

fn sign(claims: &Value) -> String {
    sign_with(SECRET, &json!({ "alg": "HS256", "kid": "k1" }), claims)
}

/// Good claims, with `changes` made to them (null removes).
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": "https://issuer", "sub": "alice", "aud": "api", "jti": "t1", "scope": "read write",
        "exp": NOW.as_secs() + 60, "nbf": NOW.as_secs() - 60, "org": { "id": 7 },
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn jwt_provider() -> Value {
    json!({
        "issuer": "https://issuer", "audiences": ["api"], "algorithms": ["HS256", "EdDSA"],
        "jwks": { "keys": [{ "kty": "oct", "kid": "k1", "k": URL_SAFE_NO_PAD.encode(SECRET) }] },
        "clock_skew_seconds": 5, "header": "authorization", "prefix": "Bearer ",
        "required_scopes": ["read"], "required_claims": [], "claims_to_headers": [{ "claim": "org.id", "header": "x-org" }],
        "forward": false,
    })
}

/// A provider of the RFC 7515 tokens, which differ in their key only.
fn joe(algorithm: &str, key: Value, changes: Value) -> Value {
    with(
        with(
            jwt_provider(),
            json!({
                "issuer": "joe", "audiences": [], "algorithms": [algorithm], "jwks": { "keys": [key] },
                "required_scopes": [],
            }),
        ),
        changes,
    )
}

fn with(mut value: Value, changes: Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        value[name] = change.clone();
    }
    value
}

fn key_provider(introspection: bool) -> Value {
    let ask = json!({
        "cluster": "c", "authority": "a", "path": "/p", "timeout_ms": 5, "positive_ttl_ms": 100,
        "negative_ttl_ms": 10, "cache_size": 4,
    });
    // SHA-256 of `secret-key`.
    let hash = "85dbe15d75ef9308c7ae0f33c7a324cc6f4bf519a2ed2f3027bd33c140a4f9aa";
    json!({
        "header": "x-api-key", "keys": [{ "sha256": hash, "consumer": "bob", "id": "key-1" }],
        "introspection": introspection.then_some(ask), "forward": false,
    })
}

fn engine(trust: bool, policies: Value) -> Authenticator {
    let config = json!({ "trust_identity_headers": trust, "claim_headers": [], "policies": policies });
    Authenticator::from_json(config.to_string().as_bytes(), 1).unwrap()
}

fn policy(any_of: Value) -> Value {
    json!({ "realm": "r", "any_of": any_of, "optional": false, "on_failure": "deny" })
}

/// `tokens`, `keys`, `both` and `ask`.
fn standard() -> Authenticator {
    engine(
        false,
        json!({
            "tokens": policy(json!([{ "jwt": jwt_provider() }])),
            "keys": policy(json!([{ "api_key": key_provider(false) }])),
            "both": policy(json!([{ "jwt": jwt_provider() }, { "api_key": key_provider(false) }])),
            "ask": policy(json!([{ "api_key": key_provider(true) }])),
            "waiting": policy(json!([{ "jwt": with(jwt_provider(), json!({ "jwks": null })) }])),
        }),
    )
}

fn headers<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Header<'a>> {
    pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

fn decide<'a>(engine: &Authenticator, policy: &str, pairs: &[(&'a str, &'a str)]) -> Decision<'a> {
    let guard = Some(policy).filter(|policy| !policy.is_empty()).map(Guard::from);
    engine.decide(guard, &headers(pairs), NOW, &Native)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[track_caller]
fn allowed(decision: Decision) -> Allowed {
    match decision {
        Decision::Allow(allowed) => allowed,
        other => panic!("not allowed: {other:?}"),
    }
}

#[track_caller]
fn denied(decision: Decision) -> (u16, String, LocalResponse) {
    match decision {
        Decision::Deny(response) => {
            let document: Value = serde_json::from_slice(&response.body).unwrap();
            (response.status, document["code"].as_str().unwrap().to_owned(), response)
        }
        other => panic!("not denied: {other:?}"),
    }
}

fn set(allowed: &Allowed) -> Vec<(String, Option<String>)> {
    let identity = allowed.identity.as_ref().unwrap();
    identity.headers().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect()
}

#[test]
fn good_token_becomes_an_identity_and_is_spent() {
    let authorization = bearer(&sign(&claims(json!({}))));
    let pairs = [("authorization", authorization.as_str()), ("x-org", "evil"), ("x-other", "kept")];
    let allowed = allowed(decide(&standard(), "tokens", &pairs));
    assert_eq!(allowed.remove, [&b"authorization"[..]], "x-org is replaced, not removed");
    let expected = [
        ("x-consumer-id", Some("alice")),
        ("x-credential-type", Some("jwt")),
        ("x-credential-id", Some("t1")),
        ("x-org", Some("7")),
    ];
    assert_eq!(set(&allowed), expected.map(|(n, v)| (n.to_owned(), v.map(str::to_owned))));
}

#[test]
fn tokens_that_do_not_hold_are_refused_with_the_reason() {
    let now = NOW.as_secs();
    let other_key = |kid: &str| sign_with(SECRET, &json!({ "alg": "HS256", "kid": kid }), &claims(json!({})));
    let cases = [
        ("expired", sign(&claims(json!({ "exp": now - 5 }))), "the token has expired"),
        ("no exp", sign(&claims(json!({ "exp": null }))), "the token has no expiry"),
        ("early", sign(&claims(json!({ "nbf": now + 6 }))), "the token is not valid yet"),
        ("bad nbf", sign(&claims(json!({ "nbf": "x" }))), "the token is malformed"),
        ("issuer", sign(&claims(json!({ "iss": "https://other" }))), "the token's issuer is not accepted"),
        ("no issuer", sign(&claims(json!({ "iss": null }))), "the token names no issuer"),
        ("audience", sign(&claims(json!({ "aud": "web" }))), "the token is for another audience"),
        ("no audience", sign(&claims(json!({ "aud": null }))), "the token is for another audience"),
        ("unknown kid", other_key("k2"), "no key fits the token"),
        ("subject", sign(&claims(json!({ "sub": "a\r\nx: y" }))), "the token's subject cannot be used"),
        ("algorithm", vectors::ES256_TOKEN.into(), "the token's issuer is not accepted"),
        (
            "wrong secret",
            sign_with(&[1; 32], &json!({ "alg": "HS256", "kid": "k1" }), &claims(json!({}))),
            "the token's signature does not hold",
        ),
        (
            "none",
            sign_with(SECRET, &json!({ "alg": "none" }), &claims(json!({}))),
            "the token's algorithm is not accepted",
        ),
        ("empty", String::new(), "the token is malformed"),
        ("long", "a".repeat(9000), "the token is too long"),
    ];
    let engine = standard();
    for (what, token, reason) in cases {
        let (status, code, response) =
            denied(decide(&engine, "tokens", &[("authorization", &bearer(&token))]));
        assert_eq!((status, code.as_str()), (401, "invalid_token"), "{what}");
        let challenge = format!(r#"Bearer realm="r", error="invalid_token", error_description="{reason}""#);
        assert!(
            response.headers.contains(&("www-authenticate", challenge)),
            "{what}: {:?}",
            response.headers
        );
        assert!(response.headers.contains(&("cache-control", "no-store".to_owned())), "{what}");
    }
}

#[test]
fn claims_that_were_named_come_with_the_identity_cached_or_not() {
    let config = json!({
        "trust_identity_headers": false, "claim_headers": [], "claims": ["org.id", "plan"],
        "policies": { "tokens": policy(json!([{ "jwt": jwt_provider() }])) },
    });
    let engine = Authenticator::from_json(config.to_string().as_bytes(), 1).unwrap();
    let token = bearer(&sign(&claims(json!({}))));
    for cached in [false, true] {
        let allowed = allowed(decide(&engine, "tokens", &[("authorization", &token)]));
        let identity = allowed.identity.unwrap();
        assert_eq!(allowed.cached, cached);
        assert_eq!(identity.claim("org.id"), Some("7"));
        assert_eq!(identity.claim("plan"), None, "the token has no such claim");
        assert_eq!(identity.claim("iss"), None, "nobody named it");
    }
}

#[test]
fn clock_skew_is_granted_both_ways() {
    let engine = standard();
    for change in [json!({ "exp": NOW.as_secs() - 4 }), json!({ "nbf": NOW.as_secs() + 5 })] {
        allowed(decide(&engine, "tokens", &[("authorization", &bearer(&sign(&claims(change))))]));
    }
}

#[test]
fn algorithm_must_be_on_the_list_of_the_policy() {
    let provider = with(jwt_provider(), json!({ "algorithms": ["EdDSA"] }));
    let engine = engine(false, json!({ "p": policy(json!([{ "jwt": provider }])) }));
    let (status, ..) = denied(decide(&engine, "p", &[("authorization", &bearer(&sign(&claims(json!({})))))]));
    assert_eq!(status, 401);
}

#[test]
fn missing_scope_is_403_cached_or_not() {
    let engine = standard();
    let token = bearer(&sign(&claims(json!({ "scope": "write" }))));
    for _ in 0..2 {
        let (status, code, _) = denied(decide(&engine, "tokens", &[("authorization", &token)]));
        assert_eq!((status, code.as_str()), (403, "insufficient_scope"));
    }
}

#[test]
fn published_tokens_pass_until_they_expire() {
    let before = Duration::from_secs(vectors::TOKENS_EXPIRE - 1);
    for (token, provider) in [
        (vectors::HS256_TOKEN, joe("HS256", vectors::hs256_key(), json!({}))),
        (vectors::RS256_TOKEN, joe("RS256", vectors::rs256_key(), json!({}))),
        (vectors::ES256_TOKEN, joe("ES256", vectors::es256_key(), json!({}))),
    ] {
        let engine = engine(false, json!({ "p": policy(json!([{ "jwt": provider }])) }));
        let bearer = bearer(token);
        let headers = headers(&[("authorization", &bearer)]);
        allowed(engine.decide(Some("p".into()), &headers, before, &Native));
        let after = before + Duration::from_secs(6);
        assert_eq!(denied(engine.decide(Some("p".into()), &headers, after, &Native)).0, 401);
    }
}

#[test]
fn public_key_is_no_hmac_secret() {
    // The classic confusion: HS256 "signed" with the text of an RSA key.
    let n = vectors::rs256_key()["n"].as_str().unwrap().to_owned();
    let provider = with(
        jwt_provider(),
        json!({ "algorithms": ["RS256", "HS256"], "jwks": { "keys": [vectors::rs256_key()] } }),
    );
    let engine = engine(false, json!({ "p": policy(json!([{ "jwt": provider }])) }));
    for secret in [n.as_bytes(), &URL_SAFE_NO_PAD.decode(&n).unwrap()] {
        let token = sign_with(secret, &json!({ "alg": "HS256" }), &claims(json!({})));
        assert_eq!(denied(decide(&engine, "p", &[("authorization", &bearer(&token))])).0, 401);
    }
}

#[test]
fn verified_token_is_not_verified_again_but_its_time_is() {
    let provider = joe("RS256", vectors::rs256_key(), json!({ "clock_skew_seconds": 0 }));
    let engine = engine(
        false,
        json!({ "p": policy(json!([{ "jwt": provider.clone() }])), "q": policy(json!([{ "jwt": provider }])) }),
    );
    let host = Counting::default();
    let bearer = bearer(vectors::RS256_TOKEN);
    let request = headers(&[("authorization", &bearer)]);
    let at = |seconds| Duration::from_secs(seconds);
    assert!(!allowed(engine.decide(Some("p".into()), &request, at(1000), &host)).cached);
    assert!(allowed(engine.decide(Some("p".into()), &request, at(1001), &host)).cached);
    assert_eq!(host.0.get(), 1);
    assert!(!allowed(engine.decide(Some("q".into()), &request, at(1001), &host)).cached, "another policy");
    assert_eq!(host.0.get(), 2);
    let (status, ..) = denied(engine.decide(Some("p".into()), &request, at(vectors::TOKENS_EXPIRE), &host));
    assert_eq!(status, 401);
    // A token that differs in its last bit only is another token.
    let mut forged = request.clone();
    let last = [&bearer.as_bytes()[..bearer.len() - 1], b"x"].concat();
    forged[0].1 = &last;
    assert_eq!(denied(engine.decide(Some("p".into()), &forged, at(1002), &host)).0, 401);
}

#[test]
fn issuers_are_told_apart() {
    let engine = engine(
        false,
        json!({ "p": policy(json!([
            { "jwt": jwt_provider() },
            { "jwt": joe("HS256", vectors::hs256_key(), json!({ "forward": true })) },
        ])) }),
    );
    let joes_bearer = bearer(vectors::HS256_TOKEN);
    let joes = headers(&[("authorization", &joes_bearer)]);
    let decision = allowed(engine.decide(Some("p".into()), &joes, Duration::from_secs(1000), &Native));
    assert!(decision.remove.is_empty(), "joe's tokens go on");
    let own = bearer(&sign(&claims(json!({}))));
    assert_eq!(allowed(decide(&engine, "p", &[("authorization", &own)])).remove, [&b"authorization"[..]]);
}

#[test]
fn without_credentials_every_scheme_is_offered() {
    let (status, code, response) = denied(decide(&standard(), "both", &[("authorization", "Basic YTpi")]));
    assert_eq!((status, code.as_str()), (401, "missing_credential"));
    for challenge in [r#"Bearer realm="r""#, r#"ApiKey realm="r""#] {
        assert!(response.headers.contains(&("www-authenticate", challenge.to_owned())));
    }
}

#[test]
fn bad_credential_is_not_retried_with_another_kind() {
    let pairs = [("authorization", "Bearer bad"), ("x-api-key", "secret-key")];
    assert_eq!(denied(decide(&standard(), "both", &pairs)).0, 401);
}

#[test]
fn good_credential_spends_the_others_too() {
    let authorization = bearer(&sign(&claims(json!({}))));
    let pairs = [("authorization", authorization.as_str()), ("x-api-key", "secret-key")];
    assert_eq!(allowed(decide(&standard(), "both", &pairs)).remove, [&b"authorization"[..], b"x-api-key"]);
    let pairs = [("authorization", "Basic YTpi"), ("x-api-key", "secret-key")];
    assert_eq!(allowed(decide(&standard(), "both", &pairs)).remove, [&b"x-api-key"[..]], "Basic is not ours");
}

#[test]
fn repeated_credential_is_a_bad_request() {
    let engine = standard();
    let token = bearer(&sign(&claims(json!({}))));
    let pairs = [("authorization", token.as_str()), ("authorization", token.as_str())];
    assert_eq!(denied(decide(&engine, "tokens", &pairs)).0, 400);
    let pairs = [("x-api-key", "secret-key"), ("x-api-key", "other")];
    let (status, code, _) = denied(decide(&engine, "keys", &pairs));
    assert_eq!((status, code.as_str()), (400, "invalid_request"));
}

#[test]
fn scheme_is_matched_without_case_and_spaces_are_skipped() {
    let (engine, token) = (standard(), sign(&claims(json!({}))));
    for scheme in ["Bearer ", "bearer ", "BEARER   "] {
        allowed(decide(&engine, "tokens", &[("authorization", &format!("{scheme}{token}"))]));
    }
    for value in [format!("Bearer{token}"), token.clone()] {
        assert_eq!(denied(decide(&engine, "tokens", &[("authorization", &value)])).1, "missing_credential");
    }
    assert_eq!(denied(decide(&engine, "tokens", &[("authorization", "bearer")])).1, "invalid_token");
}

#[test]
fn api_keys_are_known_by_their_hash() {
    let engine = standard();
    let decision = allowed(decide(&engine, "keys", &[("x-api-key", "secret-key")]));
    assert_eq!(decision.remove, [&b"x-api-key"[..]]);
    assert_eq!(set(&decision)[0], ("x-consumer-id".to_owned(), Some("bob".to_owned())));
    assert_eq!(set(&decision)[1].1.as_deref(), Some("api_key"));
    let (status, code, response) = denied(decide(&engine, "keys", &[("x-api-key", "wrong")]));
    assert_eq!((status, code.as_str()), (401, "invalid_key"));
    assert!(!String::from_utf8(response.body).unwrap().contains("wrong"));
    assert_eq!(denied(decide(&engine, "keys", &[("x-api-key", "")])).1, "missing_credential");
    assert_eq!(denied(decide(&engine, "keys", &[("x-api-key", &"k".repeat(2000))])).0, 401);
}

#[test]
fn introspection_decides_and_is_remembered() {
    let (engine, request) = (standard(), headers(&[("x-api-key", "new"), ("x-consumer-id", "evil")]));
    let Decision::Introspect(pending) = engine.decide(Some("ask".into()), &request, NOW, &Native) else {
        panic!("did not ask");
    };
    assert!(pending.body().starts_with(r#"{"key_sha256":"#) && !pending.body().contains("new"));

    let (status, code, response) = denied(engine.resume(&pending, &request, None, NOW));
    assert_eq!((status, code.as_str()), (503, "introspection_unavailable"));
    assert!(response.headers.contains(&("retry-after", "1".to_owned())));

    let answer = Answer::Active { consumer: "carol".into(), key_id: "k9".into(), claims: Claims::default() };
    let decision = allowed(engine.resume(&pending, &request, Some(&answer), NOW));
    assert_eq!(decision.remove, [&b"x-api-key"[..]]);
    assert_eq!(set(&decision)[0].1.as_deref(), Some("carol"));
    assert!(allowed(engine.decide(Some("ask".into()), &request, NOW, &Native)).cached);
    let later = NOW + Duration::from_millis(100);
    assert!(matches!(engine.decide(Some("ask".into()), &request, later, &Native), Decision::Introspect(_)));

    assert_eq!(denied(engine.resume(&pending, &request, Some(&Answer::Inactive), NOW)).0, 401);
    assert_eq!(denied(engine.decide(Some("ask".into()), &request, NOW, &Native)).1, "invalid_key");
}

#[test]
fn identity_of_the_client_goes_on_every_route() {
    let pairs =
        [("x-consumer-id", "evil"), ("X_Credential_Id", "evil"), ("x-org", "evil"), ("x-other", "kept")];
    let decision = allowed(decide(&standard(), "", &pairs));
    assert_eq!(decision.remove, [&b"x-consumer-id"[..], b"X_Credential_Id", b"x-org"]);
    assert_eq!(decision.identity, None);
    let trusting = engine(true, json!({ "tokens": policy(json!([{ "jwt": jwt_provider() }])) }));
    assert!(allowed(decide(&trusting, "", &pairs)).remove.is_empty());
}

#[test]
fn absent_claims_remove_their_headers_even_where_the_client_is_trusted() {
    let trusting = engine(true, json!({ "tokens": policy(json!([{ "jwt": jwt_provider() }])) }));
    let token = bearer(&sign(&claims(json!({ "org": null, "sub": null }))));
    let pairs = [("authorization", token.as_str()), ("x-org", "evil"), ("x-consumer-id", "evil")];
    let decision = allowed(decide(&trusting, "tokens", &pairs));
    assert_eq!(decision.remove, [&b"authorization"[..], b"x-org", b"x-consumer-id"]);
}

#[test]
fn what_is_not_known_yet_is_503() {
    let engine = standard();
    let token = bearer(&sign(&claims(json!({}))));
    for (policy, code) in [("waiting", "jwks_unavailable"), ("no-such", "unknown_policy")] {
        let (status, found, response) = denied(decide(&engine, policy, &[("authorization", &token)]));
        assert_eq!((status, found.as_str()), (503, code));
        assert!(response.headers.contains(&("retry-after", "1".to_owned())));
    }
    // A host that cannot verify is not the client's fault.
    let provider = joe("RS256", vectors::rs256_key(), json!({}));
    let engine = self::engine(false, json!({ "p": policy(json!([{ "jwt": provider }])) }));
    let bearer = bearer(vectors::RS256_TOKEN);
    let request = headers(&[("authorization", &bearer)]);
    let decision = engine.decide(Some("p".into()), &request, Duration::from_secs(1000), &Failing);
    assert_eq!(denied(decision).1, "verifier_unavailable");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let jwt = |changes| json!([{ "jwt": with(jwt_provider(), changes) }]);
    for (any_of, path) in [
        (json!([]), "policies.p.any_of"),
        (jwt(json!({ "algorithms": [] })), "policies.p.any_of[0].jwt.algorithms"),
        (jwt(json!({ "algorithms": ["none"] })), "policies.p.any_of[0].jwt.algorithms[0]"),
        (jwt(json!({ "jwks": [] })), "policies.p.any_of[0].jwt.jwks"),
        (jwt(json!({ "header": "Authorization" })), "policies.p.any_of[0].jwt.header"),
        (jwt(json!({ "issuer": "" })), "policies.p.any_of[0].jwt.issuer"),
        (
            jwt(json!({ "claims_to_headers": [{ "claim": "a", "header": ":path" }] })),
            "policies.p.any_of[0].jwt.claims_to_headers[0].header",
        ),
        (json!([{ "jwt": jwt_provider() }, { "jwt": jwt_provider() }]), "policies.p.any_of[1]"),
        (
            json!([{ "api_key": with(key_provider(false), json!({ "header": "" })) }]),
            "policies.p.any_of[0].api_key.header",
        ),
    ] {
        let config = json!({ "trust_identity_headers": false, "claim_headers": [], "policies": { "p": policy(any_of) } });
        let error = Authenticator::from_json(config.to_string().as_bytes(), 1).unwrap_err();
        assert!(error.path.starts_with(path), "{error}");
    }
    let config =
        json!({ "trust_identity_headers": false, "claim_headers": [], "claims": ["a", ""], "policies": {} });
    assert_eq!(Authenticator::from_json(config.to_string().as_bytes(), 1).unwrap_err().path, "claims[1]");
}

proptest! {
    #[test]
    fn any_header_bytes_are_survived_and_never_let_through(
        value in proptest::collection::vec(any::<u8>(), 0..60),
        name in prop_oneof!["authorization", "x-api-key", "x-consumer-id", ".{0,10}"],
        prefix in prop_oneof![Just("Bearer "), Just("bearer"), Just("")],
    ) {
        let engine = standard();
        let value = [prefix.as_bytes(), &value].concat();
        for policy in ["tokens", "keys", "both", "waiting", "no-such"] {
            let decision = engine.decide(Some(policy.into()), &[(name.as_bytes(), value.as_slice())], NOW, &Native);
            prop_assert!(matches!(decision, Decision::Deny(_)));
        }
        let decision = engine.decide(Some("ask".into()), &[(name.as_bytes(), value.as_slice())], NOW, &Native);
        prop_assert!(!matches!(decision, Decision::Allow(_)));
    }

    #[test]
    fn any_change_to_a_good_token_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let good = sign(&claims(json!({}))).into_bytes();
        let mut token = good.clone();
        let at = at.index(token.len());
        token[at] = byte;
        prop_assume!(token != good);
        let value = [b"Bearer ".as_slice(), &token].concat();
        let decision = standard().decide(Some("tokens".into()), &[(b"authorization", &value)], NOW, &Native);
        prop_assert!(!matches!(decision, Decision::Allow(_)), "{:?}", String::from_utf8_lossy(&token));
    }

    #[test]
    fn any_configuration_is_survived(json in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = Authenticator::from_json(&json, 1);
    }
}
