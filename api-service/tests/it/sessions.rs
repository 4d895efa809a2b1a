//! `/v1/sessions`: log in, rotate, end.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, PASSWORD, send};

const DAY: i64 = 24 * 3600;

async fn refresh(api: &Api, tokens: &Value) -> Answer {
    api.post("/v1/sessions/refresh", json!({"refresh_token": tokens["refresh_token"]})).await
}

async fn end(api: &Api, token: &Value) -> Answer {
    send(api.request(Method::DELETE, "/v1/sessions").json(&json!({"refresh_token": token}))).await
}

#[tokio::test]
async fn a_log_in_gives_both_tokens() {
    let api = Api::start(&["--access-token-ttl", "5m"]).await;
    api.account("ada").await;
    let tokens = api.log_in("ada").await;
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["expires_in"], 300);
    assert_eq!(tokens["access_token"].as_str().unwrap().split('.').count(), 3);
    assert!(tokens["refresh_token"].as_str().unwrap().starts_with("tr_"));
    assert_eq!(api.event_names(), ["account.registered", "session.started"]);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_look_and_cost_the_same() {
    let api = Api::start(&[]).await;
    api.account("ada").await;
    let mut problems = Vec::new();
    for (email, password) in [
        ("ada@example.com", "incorrect horse battery"),
        ("bob@example.com", PASSWORD),
        ("not an address", PASSWORD),
        ("ada@example.com", ""),
    ] {
        let before = api.metric("tollgate_api_password_hashes_total").await;
        let answer = api.post("/v1/sessions", json!({"email": email, "password": password})).await;
        let mut problem = answer.is_problem(401, "wrong-credentials");
        problem.as_object_mut().unwrap().remove("request_id");
        problems.push(problem);
        assert_eq!(api.metric("tollgate_api_password_hashes_total").await - before, 1.0, "{email}");
    }
    assert!(problems.iter().all(|problem| *problem == problems[0]));
    assert_eq!(api.metric("tollgate_api_log_ins_total{outcome=\"refused\"}").await, 4.0);
}

#[tokio::test]
async fn a_refresh_token_works_once_and_its_successor_next() {
    let api = Api::start(&[]).await;
    api.account("ada").await;
    let mut tokens = api.log_in("ada").await;
    for _ in 0..3 {
        let answer = refresh(&api, &tokens).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let next = answer.json();
        assert_ne!(next["refresh_token"], tokens["refresh_token"]);
        assert_ne!(next["access_token"], tokens["access_token"]);
        tokens = next;
    }
}

#[tokio::test]
async fn a_reused_refresh_token_ends_its_session_and_no_other() {
    let api = Api::start(&[]).await;
    api.account("ada").await;
    let other_session = api.log_in("ada").await;
    let first = api.log_in("ada").await;
    let second = refresh(&api, &first).await.json();

    refresh(&api, &first).await.is_problem(401, "invalid-token");

    refresh(&api, &second).await.is_problem(401, "invalid-token");
    assert_eq!(refresh(&api, &other_session).await.status, 200);
    let reuses = api.event_names().iter().filter(|name| **name == "session.refresh_token_reused").count();
    assert_eq!(reuses, 1);
}

#[tokio::test]
async fn of_two_refreshes_with_one_token_at_once_one_is_taken_for_reuse() {
    let api = Api::start(&[]).await;
    api.account("ada").await;
    let tokens = api.log_in("ada").await;
    let (one, two) = tokio::join!(refresh(&api, &tokens), refresh(&api, &tokens));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    let winner = if one.status == 200 { one } else { two };
    refresh(&api, &winner.json()).await.is_problem(401, "invalid-token");
}

#[tokio::test]
async fn an_ended_session_cannot_be_refreshed() {
    let api = Api::start(&[]).await;
    api.account("ada").await;
    let tokens = api.log_in("ada").await;
    assert_eq!(end(&api, &tokens["refresh_token"]).await.status, 204);
    refresh(&api, &tokens).await.is_problem(401, "invalid-token");
    assert_eq!(api.event_names().last(), Some(&"session.revoked"));
}

#[tokio::test]
async fn ending_a_session_says_nothing_about_the_token() {
    let api = Api::start(&[]).await;
    for token in ["", "tr_unknown", "ü"] {
        assert_eq!(end(&api, &json!(token)).await.status, 204);
    }
}

#[tokio::test]
async fn unknown_refresh_tokens_are_refused() {
    let api = Api::start(&[]).await;
    for token in ["", "tr_unknown", "\u{0}"] {
        let answer = api.post("/v1/sessions/refresh", json!({"refresh_token": token})).await;
        answer.is_problem(401, "invalid-token");
    }
}

#[tokio::test]
async fn a_refresh_token_expires_when_it_is_not_used() {
    let api = Api::start(&["--refresh-token-ttl", "30d"]).await;
    api.account("ada").await;
    let tokens = api.log_in("ada").await;
    api.advance(30 * DAY - 1);
    let tokens = refresh(&api, &tokens).await.json();
    api.advance(30 * DAY);
    refresh(&api, &tokens).await.is_problem(401, "invalid-token");
}

#[tokio::test]
async fn secrets_are_not_in_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/api.sqlite");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let mut api = Api::start(&["--database", &url]).await;
    let account = api.account("ada").await;
    let tokens = api.log_in("ada").await;
    let key = api.post_as(&account, "/v1/keys", json!({"name": "k"})).await.json();
    api.stop();
    api.stopped().await.unwrap();

    let bytes = std::fs::read(&file).unwrap();
    let contains = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(contains("ada@example.com"), "the database holds the account");
    for secret in [PASSWORD, tokens["refresh_token"].as_str().unwrap(), key["key"].as_str().unwrap()] {
        assert!(!contains(secret));
    }
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
