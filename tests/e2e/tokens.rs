//! Which tokens the edge takes, with a key that the test holds: every claim wrong once.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tollgate_tests::gateway::{Gateway, Shared};

use crate::{
    upstreams::header_seen,
    yaml::{self, Edge},
};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

static GATEWAY: Shared = Shared::new(|| {
    let mut yaml = Edge::with_routes([
        "{ match: { path: { prefix: /scoped } }, to: a, policies: { auth: writers } }",
        "{ match: { path: { prefix: / } }, to: a, policies: { auth: tokens } }",
    ]);
    let key = BASE64.encode(SECRET);
    let provider = format!(
        "issuer: https://issuer.test, audiences: [api], algorithms: [HS256], clock_skew: 5s, \
         jwks: {{ inline: {{ keys: [{{ kty: oct, kid: test, alg: HS256, k: {key} }}] }} }}"
    );
    yaml.auth.push(format!(
        "tokens: {{ any_of: [{{ jwt: {{ {provider}, claims_to_headers: [{{ claim: team.name, header: x-team }}] }} }}] }}"
    ));
    yaml.auth.push(format!("writers: {{ any_of: [{{ jwt: {{ {provider}, required_scopes: [write] }} }}] }}"));
    Gateway::edge_only("tokens", |ports| yaml.text(ports))
});

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn good_claims() -> Value {
    json!({
        "iss": "https://issuer.test", "aud": "api", "sub": "ada", "exp": now() + 600, "jti": "token-1",
        "team": { "name": "engines" },
    })
}

/// The good claims with some replaced; null removes one.
fn claims(changes: Value) -> Value {
    let mut claims = good_claims();
    let members = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    claims
}

fn signed(header: Value, claims: &Value, secret: &[u8]) -> String {
    let [header, claims] = [&header, claims].map(|part| BASE64.encode(part.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(format!("{header}.{claims}").as_bytes());
    format!("{header}.{claims}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

fn token(claims: &Value) -> String {
    signed(json!({ "alg": "HS256", "typ": "JWT", "kid": "test" }), claims, SECRET)
}

#[test]
fn good_tokens_are_accepted() {
    let rows = [
        ("the plain one", good_claims()),
        ("several audiences", claims(json!({ "aud": ["web", "api"] }))),
        ("expired within the leeway", claims(json!({ "exp": now() - 1 }))),
        ("valid since now", claims(json!({ "nbf": now() }))),
    ];
    for (what, claims) in rows {
        let reply = GATEWAY.get().edge().get("/x").bearer(&token(&claims)).send().unwrap();
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        assert_eq!(header_seen(&reply, "x-consumer-id"), ["ada"], "{what}");
        assert_eq!(header_seen(&reply, "x-credential-id"), ["token-1"], "{what}");
        assert_eq!(header_seen(&reply, "x-team"), ["engines"], "{what}");
    }
}

#[test]
fn wrong_and_expired_tokens_are_refused() {
    let bad_claims = [
        ("expired", json!({ "exp": now() - 60 })),
        ("never expiring", json!({ "exp": null })),
        ("not valid yet", json!({ "nbf": now() + 60 })),
        ("another issuer", json!({ "iss": "https://other.test" })),
        ("no issuer", json!({ "iss": null })),
        ("another audience", json!({ "aud": "web" })),
        ("no audience", json!({ "aud": null })),
        ("an expiry that is no number", json!({ "exp": "tomorrow" })),
    ];
    let mut rows: Vec<(&str, String)> =
        bad_claims.into_iter().map(|(what, changes)| (what, token(&claims(changes)))).collect();
    let header = |alg: &str| json!({ "alg": alg, "kid": "test" });
    let unsigned = signed(header("none"), &good_claims(), SECRET);
    rows.extend([
        ("another secret", signed(header("HS256"), &good_claims(), b"another secret, just as long as ours")),
        ("an algorithm not asked for", signed(header("ES256"), &good_claims(), SECRET)),
        ("alg none", format!("{}.", unsigned.rsplit_once('.').unwrap().0)),
        ("cut short", token(&good_claims())[..40].to_owned()),
    ]);
    for (what, token) in rows {
        let reply = GATEWAY.get().edge().get("/x").bearer(&token).send().unwrap();
        assert_eq!(reply.status, 401, "{what}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{what}");
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge}");
    }
}

#[test]
fn a_token_without_the_scope_is_forbidden() {
    let get = |scope: &str| {
        let token = token(&claims(json!({ "scope": scope })));
        GATEWAY.get().edge().get("/scoped").bearer(&token).send().unwrap()
    };
    assert_eq!(get("read write").status, 200);
    let reply = get("read");
    assert_eq!(reply.status, 403);
    assert!(reply.header("www-authenticate").unwrap().contains("error=\"insufficient_scope\""));
}

#[test]
fn a_key_added_to_the_yaml_is_accepted_and_a_removed_one_refused() {
    let with_keys = |keys: &str| {
        let mut yaml = Edge::with_routes([&yaml::prefix("/open", "a")]);
        yaml.routes
            .push("{ match: { path: { prefix: /keyed } }, to: a, policies: { auth: keys } }".to_owned());
        yaml.auth.push(format!("keys: {{ any_of: [{{ api_key: {{ keys: [{keys}] }} }}] }}"));
        yaml
    };
    let item = yaml::api_key;
    let one = item("first", "ada");
    let gateway = Gateway::edge_only("keys", |ports| with_keys(&one).text(ports)).unwrap();
    let get = |key: &str| gateway.edge().get("/keyed").header("x-api-key", key).send();
    assert_eq!(header_seen(&get("first").unwrap(), "x-consumer-id"), ["ada"]);
    assert_eq!(get("second").unwrap().status, 401);

    let two = format!("{one}, {}", item("second", "grace"));
    gateway.edit(|_| with_keys(&two).text(gateway.ports())).unwrap();
    let reply =
        tollgate_tests::wait::wait_until("the new key", tollgate_tests::gateway::EFFECT_DEADLINE, || {
            get("second")?.expect_status(200)
        });
    assert_eq!(header_seen(&reply.unwrap(), "x-consumer-id"), ["grace"]);

    gateway.edit(|_| with_keys(&item("second", "grace")).text(gateway.ports())).unwrap();
    tollgate_tests::wait::wait_until(
        "the removed key's refusal",
        tollgate_tests::gateway::EFFECT_DEADLINE,
        || get("first")?.expect_status(401),
    )
    .unwrap();
}
