//! Credentials that are good but for having been revoked.

use super::*;

/// An engine with one policy, `p`, and the list of what is revoked.
fn revoking(provider: Value) -> (Authenticator, Rc<RefCell<Revocations>>) {
    let mut engine = engine(false, json!({ "p": policy(json!([provider])) }));
    let list = Rc::<RefCell<Revocations>>::default();
    engine.refuse_revoked(&list);
    (engine, list)
}

fn revoke(list: &Rc<RefCell<Revocations>>, kind: &str, id: &str) {
    let until = NOW.as_secs() + 60;
    let update = json!({ "cursor": "1", "revoked": { "l": [[kind, id, until]] } });
    assert_eq!(list.borrow_mut().learn(&serde_json::from_value(update).unwrap(), NOW.as_secs()), 0);
}

#[track_caller]
fn assert_revoked(decision: Decision, code: &str, detail: &str) {
    let (status, found, response) = denied(decision);
    assert_eq!((status, found.as_str()), (401, code));
    let (_, challenge) = response.headers.iter().find(|(name, _)| *name == "www-authenticate").unwrap();
    let expected = format!(r#"error="{code}", error_description="{detail}""#);
    assert!(challenge.ends_with(&expected), "{challenge}");
}

#[test]
fn a_revoked_token_is_refused_also_where_it_was_remembered() {
    for (kind, id) in [("token", "t1"), ("session", "s1")] {
        let (engine, list) = revoking(json!({ "jwt": with(jwt_provider(), json!({ "revocations": "l" })) }));
        let bearer = bearer(&sign(&claims(json!({ "sid": "s1" }))));
        let headers = [("authorization", bearer.as_str())];
        revoke(&list, kind, "another");
        for cached in [false, true] {
            assert_eq!(allowed(decide(&engine, "p", &headers)).cached, cached);
        }
        revoke(&list, kind, id);
        for _ in 0..2 {
            assert_revoked(decide(&engine, "p", &headers), "invalid_token", "the token was revoked");
        }
        assert_eq!(list.borrow().take_refused(), 2);
    }
}

#[test]
fn a_revoked_key_is_refused_also_where_introspection_just_called_it_active() {
    let (engine, list) =
        revoking(json!({ "api_key": with(key_provider(true), json!({ "revocations": "l" })) }));
    let is_revoked = |decision| assert_revoked(decision, "invalid_key", "the API key was revoked");
    let configured = [("x-api-key", "secret-key")];
    revoke(&list, "api_key", "another");
    allowed(decide(&engine, "p", &configured));
    revoke(&list, "api_key", "key-1");
    is_revoked(decide(&engine, "p", &configured));

    let asked = [("x-api-key", "asked")];
    let Decision::Introspect(pending) = decide(&engine, "p", &asked) else { panic!("not asked") };
    revoke(&list, "api_key", "key-2");
    let active =
        Answer::Active { consumer: "carol".into(), key_id: "key-2".into(), claims: Claims::default() };
    is_revoked(engine.resume(&pending, &headers(&asked), Some(&active), NOW));
    is_revoked(decide(&engine, "p", &asked));
}

#[test]
fn a_provider_without_a_list_refuses_nothing() {
    let (engine, list) = revoking(json!({ "api_key": key_provider(false) }));
    revoke(&list, "api_key", "key-1");
    allowed(decide(&engine, "p", &[("x-api-key", "secret-key")]));
}

#[test]
fn until_it_is_told_what_was_revoked_nobody_passes_unless_the_policy_has_it_so() {
    let provider = json!({ "api_key": with(key_provider(false), json!({ "revocations": "l" })) });
    for (on_failure, passes) in [("deny", false), ("allow", true)] {
        let policy = with(policy(json!([provider])), json!({ "on_failure": on_failure }));
        let mut engine = engine(false, json!({ "p": policy }));
        let list = Rc::<RefCell<Revocations>>::default();
        engine.refuse_revoked(&list);
        let headers = [("x-api-key", "secret-key")];
        match (passes, decide(&engine, "p", &headers)) {
            (true, decision) => assert!(allowed(decision).failed_open),
            (false, decision) => {
                let (status, code, _) = denied(decision);
                assert_eq!((status, code.as_str()), (503, "revocations_unavailable"));
            }
        }
        revoke(&list, "api_key", "another");
        assert!(!allowed(decide(&engine, "p", &headers)).failed_open);
    }
}
