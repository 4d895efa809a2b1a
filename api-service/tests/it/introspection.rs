//! `/internal/v1/introspect` and `/jwks.json`: what the gateway asks.

use api_service::secret::Secret;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, send};

async fn introspect(api: &Api, digest: &str) -> Answer {
    let request = api.internal(Method::POST, "/internal/v1/introspect");
    send(request.json(&json!({"key_sha256": digest}))).await
}

fn digest(key: &Value) -> String {
    Secret::new(key["key"].as_str().unwrap()).sha256().to_string()
}

#[tokio::test]
async fn an_active_key_leads_to_its_consumer() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let key = api.post_as(&ada, "/v1/keys", json!({"name": "k"})).await.json();
    for _ in 0..2 {
        let answer = introspect(&api, &digest(&key)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!({"active": true, "consumer": ada, "key_id": key["id"]}));
    }
}

#[tokio::test]
async fn a_revoked_key_is_inactive_at_once_in_spite_of_the_cache() {
    let api = Api::start(&["--cache-ttl", "1h"]).await;
    let ada = api.account("ada").await;
    let key = api.post_as(&ada, "/v1/keys", json!({"name": "k"})).await.json();
    assert_eq!(introspect(&api, &digest(&key)).await.json()["active"], true);
    api.delete_as(&ada, &format!("/v1/keys/{}", key["id"].as_str().unwrap())).await;
    let answer = introspect(&api, &digest(&key)).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"active": false})));
}

#[tokio::test]
async fn an_unknown_key_is_inactive() {
    let api = Api::start(&[]).await;
    let answer = introspect(&api, &"0".repeat(64)).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"active": false})));
}

#[tokio::test]
async fn digests_in_any_other_spelling_are_refused() {
    let api = Api::start(&[]).await;
    for odd in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
        introspect(&api, odd).await.is_problem(422, "invalid");
    }
}

#[tokio::test]
async fn introspection_is_not_on_the_public_port() {
    let api = Api::start(&[]).await;
    api.post("/internal/v1/introspect", json!({"key_sha256": "0".repeat(64)}))
        .await
        .is_problem(404, "not-found");
    api.get("/metrics").await.is_problem(404, "not-found");
}

#[tokio::test]
async fn the_key_set_is_the_same_on_both_ports_and_may_be_cached() {
    let api = Api::start(&[]).await;
    let public = api.get("/jwks.json").await;
    let internal = send(api.internal(Method::GET, "/jwks.json")).await;
    assert_eq!(public.text, internal.text);
    assert_eq!(internal.header("cache-control"), "public, max-age=300");
    let etag = internal.header("etag");
    assert!(etag.starts_with('"') && etag.ends_with('"'));
    for (known, status) in [
        (etag.to_owned(), 304),
        (format!("W/{etag}"), 304),
        (format!("\"other\", {etag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
    ] {
        let request = api.internal(Method::GET, "/jwks.json").header("if-none-match", &known);
        let answer = send(request).await;
        assert_eq!(answer.status.as_u16(), status, "{known}");
        assert_eq!(answer.header("etag"), etag);
    }
}
