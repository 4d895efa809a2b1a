//! `/v1/keys`.

use serde_json::json;

use crate::harness::Api;

#[tokio::test]
async fn a_key_is_shown_once() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let answer = api.post_as(&ada, "/v1/keys", json!({"name": "laptop"})).await;
    assert_eq!(answer.status, 201);
    let created = answer.json();
    let key = created["key"].as_str().unwrap();
    assert!(key.starts_with("tg_") && key.len() == 46, "{key}");

    let listed = api.get_as(&ada, "/v1/keys").await;
    assert_eq!(listed.status, 200);
    assert!(!listed.text.contains(key));
    assert_eq!(listed.json()["items"][0]["id"], created["id"]);
    assert_eq!(listed.json()["items"][0]["name"], "laptop");
}

#[tokio::test]
async fn keys_belong_to_their_owner() {
    let api = Api::start(&[]).await;
    let (ada, bob) = (api.account("ada").await, api.account("bob").await);
    let key = api.post_as(&ada, "/v1/keys", json!({"name": "laptop"})).await.json();
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());

    assert_eq!(api.get_as(&bob, "/v1/keys").await.json()["items"], json!([]));
    api.delete_as(&bob, &path).await.is_problem(404, "not-found");
    assert_eq!(api.delete_as(&ada, &path).await.status, 204);
    api.delete_as(&ada, &path).await.is_problem(404, "not-found");
    assert_eq!(api.get_as(&ada, "/v1/keys").await.json()["items"], json!([]));
    let events = api.event_names();
    assert_eq!(events[events.len() - 2..], ["key.created", "key.revoked"]);
}

#[tokio::test]
async fn keys_come_in_pages_that_hold_each_once() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    for number in 0..5 {
        api.post_as(&ada, "/v1/keys", json!({"name": format!("key {number}")})).await;
    }
    let (mut names, mut path) = (Vec::new(), "/v1/keys?limit=2".to_owned());
    loop {
        let page = api.get_as(&ada, &path).await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        names.extend(items.iter().map(|key| key["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/keys?limit=2&after={next}");
    }
    assert_eq!(names, ["key 0", "key 1", "key 2", "key 3", "key 4"]);
}

#[tokio::test]
async fn an_account_has_100_keys_at_most_and_room_again_after_a_revocation() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let mut last = String::new();
    for number in 0..100 {
        let answer = api.post_as(&ada, "/v1/keys", json!({"name": format!("{number}")})).await;
        assert_eq!(answer.status, 201);
        last = answer.json()["id"].as_str().unwrap().to_owned();
    }
    api.post_as(&ada, "/v1/keys", json!({"name": "one more"})).await.is_problem(409, "too-many");
    assert_eq!(api.delete_as(&ada, &format!("/v1/keys/{last}")).await.status, 204);
    assert_eq!(api.post_as(&ada, "/v1/keys", json!({"name": "one more"})).await.status, 201);
}

#[tokio::test]
async fn bad_requests_about_keys_are_refused() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    for body in
        [json!({"name": ""}), json!({"name": "a\nb"}), json!({}), json!({"name": "a", "x": 1}), json!([])]
    {
        api.post_as(&ada, "/v1/keys", body).await.is_problem(422, "invalid");
    }
    for query in ["limit=0", "limit=201", "after=x"] {
        api.get_as(&ada, &format!("/v1/keys?{query}")).await.is_problem(422, "invalid");
    }
    for query in ["limit=x", "limit=-1", "unknown=1", "limit=1&limit=2"] {
        api.get_as(&ada, &format!("/v1/keys?{query}")).await.is_problem(400, "malformed");
    }
    api.delete_as(&ada, "/v1/keys/x").await.is_problem(404, "not-found");
    api.delete_as(&ada, "/v1/keys/%ff").await.is_problem(404, "not-found");
    api.post("/v1/keys", json!({"name": "a"})).await.is_problem(401, "unauthenticated");
    let stranger = "01a2082d-ad05-77c3-8660-4aa741bdc6c0";
    api.post_as(stranger, "/v1/keys", json!({"name": "a"})).await.is_problem(403, "no-account");
}
