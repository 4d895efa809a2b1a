//! What routes require beyond their policy.

use super::*;

/// Policies without scopes of their own, and requirements.
fn engine() -> Authenticator {
    let free = |changes| with(with(jwt_provider(), json!({ "required_scopes": [] })), changes);
    let signed = joe("RS256", vectors::rs256_key(), json!({ "clock_skew_seconds": 0 }));
    let mut key = key_provider(false);
    key["keys"][0]["claims"] = json!({ "scope": "read", "plan": "silver" });
    let unknown = json!([{ "jwt": free(json!({ "jwks": null })) }, { "api_key": key_provider(true) }]);
    let gold = json!([{ "claim": "plan", "any_of": ["gold"] }]);
    let config = json!({
        "trust_identity_headers": false, "claim_headers": [],
        "policies": {
            "tokens": policy(json!([{ "jwt": free(json!({})) }])),
            "signed": policy(json!([{ "jwt": signed }])),
            "keys": policy(json!([{ "api_key": key }])),
            "ask": policy(json!([{ "api_key": key_provider(true) }])),
            "optional": with(policy(json!([{ "jwt": free(json!({})) }])), json!({ "optional": true })),
            "open": with(policy(unknown), json!({ "on_failure": "allow" })),
        },
        "requirements": {
            "read": { "scopes": ["read"], "claims": [] },
            "gold": { "scopes": [], "claims": gold },
            "both": { "scopes": ["read", "write"], "claims": gold },
            "root": { "scopes": [], "claims": [{ "claim": "http://example.com/is_root", "any_of": ["true"] }] },
        },
    });
    Authenticator::from_json(config.to_string().as_bytes(), 1).unwrap()
}

fn on<'a>(policy: &'a str, requirement: &'a str) -> Option<Guard<'a>> {
    Some(Guard { policy, requirement: Some(requirement) })
}

#[test]
fn a_token_passes_where_it_has_what_the_route_requires() {
    let engine = engine();
    for (says, read, gold, both) in [
        (json!({ "plan": "gold" }), true, true, true),
        (json!({ "plan": "gold", "scope": "read" }), true, true, false),
        (json!({ "plan": ["silver", "gold"], "scope": null }), false, true, false),
        (json!({ "plan": "silver", "scope": null, "scp": ["read", "write"] }), true, false, false),
        (json!({ "scope": "reader" }), false, false, false),
        (json!({ "scope": { "a": "x read y" } }), false, false, false),
    ] {
        let token = bearer(&sign(&claims(says.clone())));
        let request = headers(&[("authorization", token.as_str())]);
        // Twice, as the second is remembered.
        for _ in 0..2 {
            for (requirement, passes) in [("read", read), ("gold", gold), ("both", both)] {
                let decision = engine.decide(on("tokens", requirement), &request, NOW, &Native);
                assert_eq!(matches!(decision, Decision::Allow(_)), passes, "{says} {requirement}");
            }
            allowed(engine.decide(Some("tokens".into()), &request, NOW, &Native));
        }
    }
}

#[test]
fn what_is_lacking_is_told_with_the_scopes_that_are_needed() {
    let engine = engine();
    let token = bearer(&sign(&claims(json!({ "scope": "write" }))));
    let request = headers(&[("authorization", token.as_str())]);
    let (status, code, response) = denied(engine.decide(on("tokens", "both"), &request, NOW, &Native));
    assert_eq!((status, code.as_str()), (403, "insufficient_scope"));
    let (_, challenge) = response.headers.iter().find(|(name, _)| *name == "www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer ") && challenge.ends_with(r#"scope="read write""#), "{challenge}");
    let (status, code, _) = denied(engine.decide(on("tokens", "gold"), &request, NOW, &Native));
    assert_eq!((status, code.as_str()), (403, "insufficient_claims"));
}

#[test]
fn a_token_is_verified_once_whatever_routes_it_comes_to() {
    let (engine, host) = (engine(), Counting::default());
    let token = bearer(vectors::RS256_TOKEN);
    let request = headers(&[("authorization", token.as_str())]);
    let at = Duration::from_secs(1000);
    assert_eq!(denied(engine.decide(on("signed", "gold"), &request, at, &host)).0, 403);
    assert!(allowed(engine.decide(on("signed", "root"), &request, at, &host)).cached);
    assert!(allowed(engine.decide(Some("signed".into()), &request, at, &host)).cached);
    assert_eq!(denied(engine.decide(on("signed", "read"), &request, at, &host)).0, 403);
    assert_eq!(host.0.get(), 1);
}

#[test]
fn api_keys_have_scopes_and_claims_too() {
    let engine = engine();
    let request = headers(&[("x-api-key", "secret-key")]);
    allowed(engine.decide(on("keys", "read"), &request, NOW, &Native));
    let (status, code, response) = denied(engine.decide(on("keys", "gold"), &request, NOW, &Native));
    assert_eq!((status, code.as_str()), (403, "insufficient_claims"));
    assert!(response.headers.iter().any(|(_, value)| value.starts_with("ApiKey ")), "{:?}", response.headers);

    let request = headers(&[("x-api-key", "new")]);
    let Decision::Introspect(pending) = engine.decide(on("ask", "both"), &request, NOW, &Native) else {
        panic!("did not ask");
    };
    let answer = |says: Value| Answer::Active {
        consumer: "carol".into(),
        key_id: "k9".into(),
        claims: Claims::from(says.as_object().unwrap().clone()),
    };
    let full = answer(json!({ "scope": "read write", "plan": "gold" }));
    allowed(engine.resume(&pending, &request, Some(&full), NOW));
    let poor = answer(json!({ "scope": "read" }));
    assert_eq!(denied(engine.resume(&pending, &request, Some(&poor), NOW)).1, "insufficient_scope");
    // What was remembered is asked the same.
    assert_eq!(denied(engine.decide(on("ask", "both"), &request, NOW, &Native)).1, "insufficient_scope");
    allowed(engine.decide(on("ask", "read"), &request, NOW, &Native));
}

#[test]
fn a_requirement_is_never_passed_over() {
    let engine = engine();
    let token = bearer(&sign(&claims(json!({ "plan": "gold" }))));
    let request = headers(&[("authorization", token.as_str())]);
    for (policy, requirement) in [("tokens", "gone"), ("tokens", ""), ("", "read"), ("gone", "read")] {
        let decision = engine.decide(on(policy, requirement), &request, NOW, &Native);
        assert_eq!(denied(decision).1, "unknown_policy", "{policy} {requirement}");
    }
    // Nobody has no scopes: neither where a credential is optional, nor where it can't be checked.
    allowed(engine.decide(Some("optional".into()), &[], NOW, &Native));
    let (status, code, response) = denied(engine.decide(on("optional", "read"), &[], NOW, &Native));
    assert_eq!((status, code.as_str()), (401, "missing_credential"));
    assert!(response.headers.contains(&("www-authenticate", r#"Bearer realm="r""#.to_owned())));
    assert!(allowed(engine.decide(Some("open".into()), &request, NOW, &Native)).failed_open);
    let decision = engine.decide(on("open", "read"), &request, NOW, &Native);
    assert_eq!(denied(decision).1, "jwks_unavailable");
    let key = headers(&[("x-api-key", "new")]);
    let Decision::Introspect(pending) = engine.decide(on("open", "read"), &key, NOW, &Native) else {
        panic!("did not ask");
    };
    assert_eq!(denied(engine.resume(&pending, &key, None, NOW)).1, "introspection_unavailable");
}

#[test]
fn mistakes_in_a_requirement_are_told_with_their_place() {
    for (requirement, path) in [
        (json!({ "scopes": [""], "claims": [] }), "requirements.r.scopes[0]"),
        (json!({ "scopes": ["a", "b c"], "claims": [] }), "requirements.r.scopes[1]"),
        (
            json!({ "scopes": [], "claims": [{ "claim": "", "any_of": ["x"] }] }),
            "requirements.r.claims[0].claim",
        ),
        (
            json!({ "scopes": [], "claims": [{ "claim": "a", "any_of": [] }] }),
            "requirements.r.claims[0].any_of",
        ),
        (json!({ "scopes": [], "claims": [], "or": 1 }), "requirements.r.or"),
    ] {
        let config = json!({
            "trust_identity_headers": false, "claim_headers": [], "policies": {}, "requirements": { "r": requirement },
        });
        assert_eq!(Authenticator::from_json(config.to_string().as_bytes(), 1).unwrap_err().path, path);
    }
}
