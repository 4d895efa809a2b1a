//! Policies that ask for several credentials at once, and providers that read several headers.

use super::*;

fn all_of(providers: Value) -> Value {
    json!({ "realm": "r", "all_of": providers, "optional": false, "on_failure": "deny" })
}

fn asking(header: &str) -> Value {
    json!({ "api_key": with(key_provider(true), json!({ "header": header, "keys": [] })) })
}

/// A provider of tokens in another header, which copies further claims.
fn app(changes: Value) -> Value {
    let copies = json!([
        { "claim": "org.id", "header": "x-org" }, { "claim": "plan", "header": "x-plan" },
        { "claim": "sub", "header": "x-consumer-id" },
    ]);
    let app = json!({ "header": "x-app", "prefix": "", "required_scopes": [], "claims_to_headers": copies });
    with(with(jwt_provider(), app), changes)
}

fn several() -> Authenticator {
    let (user, key) = (json!({ "jwt": jwt_provider() }), json!({ "api_key": key_provider(false) }));
    let asked = json!([asking("x-a"), user, asking("x-b")]);
    engine(
        false,
        json!({
            "both": all_of(json!([user, key])),
            "key first": all_of(json!([key, user])),
            "apps": all_of(json!([user, { "jwt": app(json!({})) }])),
            "optional": with(all_of(json!([user, key])), json!({ "optional": true })),
            "ask": all_of(asked.clone()),
            "open": with(all_of(asked), json!({ "on_failure": "allow" })),
        }),
    )
}

fn good_token() -> String {
    bearer(&sign(&claims(json!({}))))
}

fn active(consumer: &str) -> Answer {
    Answer::Active { consumer: consumer.into(), key_id: "k".into(), claims: Claims::default() }
}

#[track_caller]
fn asks(decision: Decision) -> Box<Pending> {
    match decision {
        Decision::Introspect(pending) => pending,
        other => panic!("does not ask: {other:?}"),
    }
}

#[test]
fn every_credential_must_hold_and_the_first_says_who_calls() {
    let (engine, token) = (several(), good_token());
    let good = [("authorization", token.as_str()), ("x-api-key", "secret-key"), ("x-org", "evil")];
    let value = |allowed: &Allowed, name: &str| {
        allowed.identity.as_ref().unwrap().value(name.as_bytes()).map(str::to_owned)
    };
    let user = allowed(decide(&engine, "both", &good));
    assert_eq!(user.remove, [&b"authorization"[..], b"x-api-key"]);
    assert_eq!(value(&user, "x-consumer-id").as_deref(), Some("alice"));
    assert_eq!(value(&user, "x-org").as_deref(), Some("7"));
    let owner = allowed(decide(&engine, "key first", &good));
    assert_eq!(value(&owner, "x-consumer-id").as_deref(), Some("bob"));
    assert_eq!(value(&owner, "x-credential-type").as_deref(), Some("api_key"));
    assert_eq!(value(&owner, "x-org").as_deref(), Some("7"), "the other's claim headers come too");
    let poor = bearer(&sign(&claims(json!({ "scope": "write" }))));
    for policy in ["both", "key first"] {
        for (token, key, code) in [
            (token.as_str(), "wrong", "invalid_key"),
            ("Bearer bad", "secret-key", "invalid_token"),
            (poor.as_str(), "secret-key", "insufficient_scope"),
        ] {
            let pairs = [("authorization", token), ("x-api-key", key)];
            assert_eq!(denied(decide(&engine, policy, &pairs)).1, code, "{policy}");
        }
        assert_eq!(denied(decide(&engine, policy, &[good[0], good[1], good[1]])).0, 400);
    }
}

#[test]
fn of_a_claim_header_that_two_set_the_first_has_the_word() {
    let (engine, user) = (several(), good_token());
    let app = sign(&claims(json!({ "sub": "app", "plan": "gold", "org": { "id": 9 } })));
    let pairs = [("authorization", user.as_str()), ("x-app", app.as_str())];
    let identity = allowed(decide(&engine, "apps", &pairs)).identity.unwrap();
    assert_eq!(identity.value(b"x-consumer-id"), Some("alice"));
    assert_eq!(identity.value(b"x-org"), Some("7"));
    assert_eq!(identity.value(b"x-plan"), Some("gold"));
}

#[test]
fn a_missing_credential_is_named_by_its_scheme() {
    let (engine, token) = (several(), good_token());
    let challenges = |pairs: &[(&str, &str)], policy| {
        let (status, code, response) = denied(decide(&engine, policy, pairs));
        assert_eq!((status, code.as_str()), (401, "missing_credential"));
        let challenges = response.headers.into_iter().filter(|(name, _)| *name == "www-authenticate");
        challenges.map(|(_, value)| value).collect::<Vec<_>>()
    };
    let (bearer, key) = (r#"Bearer realm="r""#, r#"ApiKey realm="r""#);
    assert_eq!(challenges(&[], "both"), [bearer, key]);
    assert_eq!(challenges(&[("x-api-key", "secret-key")], "both"), [bearer]);
    // What is there isn't looked at, whether good or bad.
    assert_eq!(challenges(&[("x-api-key", "wrong")], "both"), [bearer]);
    assert_eq!(challenges(&[("authorization", &token)], "both"), [key]);
    // One of two is not nobody.
    assert_eq!(challenges(&[("authorization", &token)], "optional"), [key]);
    assert_eq!(allowed(decide(&engine, "optional", &[])).identity, None);
}

#[test]
fn introspection_may_stand_anywhere_and_more_than_once() {
    let (engine, token) = (several(), good_token());
    let pairs = [("x-b", "key-b"), ("authorization", token.as_str()), ("x-a", "key-a")];
    let request = headers(&pairs);
    let first = asks(decide(&engine, "ask", &pairs));
    let second = asks(engine.resume(&first, &request, Some(&active("carol")), NOW));
    assert_ne!(first.body(), second.body());
    let passed = allowed(engine.resume(&second, &request, Some(&active("dave")), NOW));
    let identity = passed.identity.as_ref().unwrap();
    assert_eq!(identity.value(b"x-consumer-id"), Some("carol"), "it is the first");
    assert_eq!(identity.value(b"x-org"), Some("7"));
    assert_eq!(passed.remove, [&b"x-b"[..], b"authorization", b"x-a"]);
    assert!(!passed.cached);
    assert!(allowed(decide(&engine, "ask", &pairs)).cached);

    let other = several();
    let first = asks(decide(&other, "ask", &pairs));
    assert_eq!(denied(other.resume(&first, &request, Some(&Answer::Inactive), NOW)).1, "invalid_key");
    assert_eq!(denied(other.resume(&first, &request, None, NOW)).1, "introspection_unavailable");
    let second = asks(other.resume(&first, &request, Some(&active("carol")), NOW));
    assert_eq!(denied(other.resume(&second, &request, Some(&Answer::Inactive), NOW)).1, "invalid_key");
    // A bad token is refused before anybody is asked.
    let bad = [("x-b", "new"), ("authorization", "Bearer bad"), ("x-a", "new")];
    assert_eq!(denied(decide(&other, "ask", &bad)).1, "invalid_token");
}

#[test]
fn what_cannot_be_checked_passes_only_beside_credentials_that_are_good() {
    let (engine, token) = (several(), good_token());
    let pairs = [("x-b", "key-b"), ("authorization", token.as_str()), ("x-a", "key-a")];
    let request = headers(&pairs);
    let first = asks(decide(&engine, "open", &pairs));
    let second = asks(engine.resume(&first, &request, None, NOW));
    assert_eq!(denied(engine.resume(&second, &request, Some(&Answer::Inactive), NOW)).1, "invalid_key");
    for answer in [None, Some(&active("dave"))] {
        let nobody = allowed(engine.resume(&second, &request, answer, NOW));
        assert!(nobody.failed_open && nobody.identity.is_none());
        assert_eq!(nobody.remove, [&b"x-b"[..], b"authorization", b"x-a"]);
    }
}

#[test]
fn a_policy_is_any_of_or_all_of() {
    let user = json!({ "jwt": jwt_provider() });
    let second = json!({ "jwt": with(jwt_provider(), json!({ "issuer": "https://second" })) });
    let nameless = json!({ "jwt": with(jwt_provider(), json!({ "issuer": "" })) });
    for (policy, path) in [
        (all_of(json!([])), "policies.p.any_of"),
        (with(policy(json!([user])), json!({ "all_of": [second] })), "policies.p.all_of"),
        (all_of(json!([user, second])), "policies.p.all_of[1]"),
        (all_of(json!([user, user])), "policies.p.all_of[1]"),
        (all_of(json!([nameless])), "policies.p.all_of[0].jwt.issuer"),
    ] {
        let config =
            json!({ "trust_identity_headers": false, "claim_headers": [], "policies": { "p": policy } });
        assert_eq!(Authenticator::from_json(config.to_string().as_bytes(), 1).unwrap_err().path, path);
    }
}

#[test]
fn a_token_remembered_from_one_header_is_not_good_in_another() {
    let first = json!({ "jwt": jwt_provider() });
    let second = json!({ "jwt": app(json!({ "issuer": "https://second" })) });
    let strict = json!({ "jwt": app(json!({ "required_scopes": ["admin"] })) });
    let engine = engine(
        false,
        json!({
            "any": policy(json!([first, second])), "all": all_of(json!([first, second])),
            "same": policy(json!([first, strict])),
        }),
    );
    let own = sign(&claims(json!({})));
    let other = sign(&claims(json!({ "iss": "https://second", "sub": "app" })));
    let (own_bearer, other_bearer) = (bearer(&own), bearer(&other));
    for _ in 0..2 {
        allowed(decide(&engine, "any", &[("authorization", &own_bearer)]));
        allowed(decide(&engine, "any", &[("x-app", &other)]));
        allowed(decide(&engine, "all", &[("authorization", &own_bearer), ("x-app", &other)]));
        assert_eq!(denied(decide(&engine, "any", &[("authorization", &other_bearer)])).1, "invalid_token");
        assert_eq!(denied(decide(&engine, "any", &[("x-app", &own)])).1, "invalid_token");
        // One credential is not two.
        let twice = [("authorization", own_bearer.as_str()), ("x-app", own.as_str())];
        assert_eq!(denied(decide(&engine, "all", &twice)).1, "invalid_token");
        // The same issuer in two headers: each asks for what it asks.
        allowed(decide(&engine, "same", &[("authorization", &own_bearer)]));
        assert_eq!(denied(decide(&engine, "same", &[("x-app", &own)])).1, "insufficient_scope");
    }
}
