//! `/v1/accounts` and `/v1/account`.

use serde_json::json;

use crate::harness::{Api, PASSWORD};

#[tokio::test]
async fn a_new_account_is_shown_normalised_and_without_its_password() {
    let api = Api::start(&[]).await;
    let body = json!({"email": " Ada@Example.COM ", "password": PASSWORD, "name": " Ada "});
    let answer = api.post("/v1/accounts", body).await;
    assert_eq!(answer.status, 201);
    let account = answer.json();
    assert_eq!(account["email"], "ada@example.com");
    assert_eq!(account["name"], "Ada");
    let members: Vec<&String> = account.as_object().unwrap().keys().collect();
    assert_eq!(members, ["email", "id", "name", "registered_at"]);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(api.event_names(), ["account.registered"]);

    let id = account["id"].as_str().unwrap();
    let same = api.get_as(id, "/v1/account").await;
    assert_eq!((same.status.as_u16(), same.json()), (200, account.clone()));
}

#[tokio::test]
async fn an_address_has_one_account_however_it_is_spelled() {
    let api = Api::start(&[]).await;
    api.account("ada").await;
    let answer = api.post("/v1/accounts", json!({"email": "ADA@example.com", "password": PASSWORD})).await;
    let problem = answer.is_problem(409, "taken");
    assert_eq!(problem["detail"], "the e-mail address is taken");
}

#[tokio::test]
async fn of_two_registrations_of_one_address_at_once_one_wins() {
    let api = Api::start(&[]).await;
    let body = json!({"email": "ada@example.com", "password": PASSWORD});
    let (one, two) =
        tokio::join!(api.post("/v1/accounts", body.clone()), api.post("/v1/accounts", body.clone()));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
}

#[tokio::test]
async fn registrations_that_break_a_rule_are_told_which() {
    let api = Api::start(&[]).await;
    let good = "ada@example.com";
    for (body, field) in [
        (json!({"email": "ada", "password": PASSWORD}), "email"),
        (json!({"email": "", "password": PASSWORD}), "email"),
        (json!({"email": good, "password": "short"}), "password"),
        (json!({"email": good, "password": "x".repeat(129)}), "password"),
        (json!({"email": good, "password": PASSWORD, "name": ""}), "name"),
        (json!({"email": good, "password": PASSWORD, "name": "a\u{0}b"}), "name"),
        (json!({"email": good, "password": PASSWORD, "name": "x".repeat(101)}), "name"),
    ] {
        let problem = api.post("/v1/accounts", body).await.is_problem(422, "invalid");
        assert_eq!(problem["field"], field);
    }
}

#[tokio::test]
async fn a_consumer_without_an_account_has_none_to_show() {
    let api = Api::start(&[]).await;
    api.get("/v1/account").await.is_problem(401, "unauthenticated");
    for consumer in ["demo", "01a2082d-ad05-77c3-8660-4aa741bdc6c0"] {
        api.get_as(consumer, "/v1/account").await.is_problem(403, "no-account");
    }
}
