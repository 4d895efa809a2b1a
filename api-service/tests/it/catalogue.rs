//! `/v1/apis`.

use serde_json::{Value, json};

use crate::harness::Api;

fn petstore() -> Value {
    json!({"name": "petstore", "title": "Pet store", "description": "Pets.", "base_path": "/petstore/v1"})
}

#[tokio::test]
async fn a_published_api_is_there_for_everyone() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let answer = api.post_as(&ada, "/v1/apis", petstore()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let published = answer.json();
    assert_eq!(published["owner"], ada);
    let path = format!("/v1/apis/{}", published["id"].as_str().unwrap());
    for _ in 0..2 {
        let read = api.get(&path).await;
        assert_eq!((read.status.as_u16(), read.json()), (200, published.clone()));
    }
    assert_eq!(api.get("/v1/apis").await.json(), json!({"items": [published]}));
    assert_eq!(api.event_names().last(), Some(&"api.published"));
}

#[tokio::test]
async fn only_the_owner_removes_an_api_and_then_it_is_gone_at_once() {
    let api = Api::start(&["--cache-ttl", "1h"]).await;
    let (ada, bob) = (api.account("ada").await, api.account("bob").await);
    let published = api.post_as(&ada, "/v1/apis", petstore()).await.json();
    let path = format!("/v1/apis/{}", published["id"].as_str().unwrap());
    assert_eq!(api.get(&path).await.status, 200);

    api.delete_as(&bob, &path).await.is_problem(403, "not-owner");
    assert_eq!(api.get(&path).await.status, 200);
    assert_eq!(api.delete_as(&ada, &path).await.status, 204);

    api.get(&path).await.is_problem(404, "not-found");
    api.delete_as(&ada, &path).await.is_problem(404, "not-found");
    assert_eq!(api.post_as(&bob, "/v1/apis", petstore()).await.status, 201, "the name is free again");
}

#[tokio::test]
async fn names_of_apis_are_unique_across_owners() {
    let api = Api::start(&[]).await;
    let (ada, bob) = (api.account("ada").await, api.account("bob").await);
    assert_eq!(api.post_as(&ada, "/v1/apis", petstore()).await.status, 201);
    api.post_as(&bob, "/v1/apis", petstore()).await.is_problem(409, "taken");
}

#[tokio::test]
async fn the_catalogue_comes_in_pages() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    for name in ["a", "b", "c"] {
        let body = json!({"name": name, "title": name, "base_path": "/"});
        assert_eq!(api.post_as(&ada, "/v1/apis", body).await.status, 201);
    }
    let first = api.get("/v1/apis?limit=2").await.json();
    assert_eq!(first["items"][1]["name"], "b");
    let second = api.get(&format!("/v1/apis?limit=2&after={}", first["next"].as_str().unwrap())).await.json();
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["items"][0]["name"], "c");
    assert_eq!(second.get("next"), None);
}

#[tokio::test]
async fn publications_that_break_a_rule_are_told_which() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    for (field, value) in [
        ("name", "Pet Store".to_owned()),
        ("name", "a".repeat(64)),
        ("title", String::new()),
        ("description", "x".repeat(2001)),
        ("base_path", "petstore".to_owned()),
        ("base_path", "/a/../b".to_owned()),
    ] {
        let mut body = petstore();
        body[field] = value.into();
        let problem = api.post_as(&ada, "/v1/apis", body).await.is_problem(422, "invalid");
        assert_eq!(problem["field"], field);
    }
    api.post("/v1/apis", petstore()).await.is_problem(401, "unauthenticated");
    api.post_as("demo", "/v1/apis", petstore()).await.is_problem(403, "no-account");
    for id in ["x", "01a2082d-ad05-77c3-8660-4aa741bdc6c0", "%ff"] {
        api.get(&format!("/v1/apis/{id}")).await.is_problem(404, "not-found");
    }
}
