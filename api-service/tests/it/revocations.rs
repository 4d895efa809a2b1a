//! `/revocations`: what gateways are to refuse.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, send};

async fn revocations(api: &Api) -> Answer {
    send(api.internal(Method::GET, "/revocations")).await
}

/// Asks again as one who has that answer.
async fn poll(api: &Api, had: &Answer) -> Answer {
    send(api.internal(Method::GET, "/revocations").header("if-none-match", had.header("etag"))).await
}

/// Revokes a new key of this account.
async fn revoke_a_key(api: &Api, account: &str) {
    let key = api.post_as(account, "/v1/keys", json!({"name": "k"})).await.json();
    api.delete_as(account, &format!("/v1/keys/{}", key["id"].as_str().unwrap())).await;
}

/// The session that an access token names.
fn session_of(tokens: &Value) -> String {
    let claims = tokens["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["sid"].as_str().unwrap().to_owned()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_revoked_key_is_listed_until_no_gateway_remembers_it() {
    let api = Api::start(&["--revocation-retention", "10m"]).await;
    let ada = api.account("ada").await;
    let key = api.post_as(&ada, "/v1/keys", json!({"name": "k"})).await.json();
    assert_eq!(revocations(&api).await.json(), json!({"api_keys": [], "sessions": []}));
    api.delete_as(&ada, &format!("/v1/keys/{}", key["id"].as_str().unwrap())).await;
    let listed = revocations(&api).await.json();
    assert_eq!(ids(&listed["api_keys"]), [key["id"].as_str().unwrap()]);
    // And for as long as a gateway's clock may be behind.
    api.advance(600 + 299);
    assert_eq!(revocations(&api).await.json(), listed);
    api.advance(1);
    assert_eq!(revocations(&api).await.json(), json!({"api_keys": [], "sessions": []}));
}

#[tokio::test]
async fn what_ends_a_session_lists_it_until_its_tokens_have_run_out_on_every_clock() {
    let api = Api::start(&["--access-token-ttl", "15m"]).await;
    api.account("ada").await;
    let (first, second, third) = (api.log_in("ada").await, api.log_in("ada").await, api.log_in("ada").await);
    let refresh =
        |tokens: &Value| api.post("/v1/sessions/refresh", json!({"refresh_token": tokens["refresh_token"]}));
    assert_eq!(refresh(&third).await.status, 200);

    let end = api.request(Method::DELETE, "/v1/sessions");
    send(end.json(&json!({"refresh_token": first["refresh_token"]}))).await;
    let renewed = refresh(&second).await.json();
    assert_eq!(session_of(&renewed), session_of(&second), "a session keeps its name");
    assert_eq!(refresh(&second).await.status, 401, "came twice");
    let listed = revocations(&api).await.json();
    let mut ended = [session_of(&first), session_of(&second)];
    ended.sort_unstable();
    assert_eq!(ids(&listed["sessions"]), ended);
    api.advance(20 * 60 - 1);
    assert_eq!(revocations(&api).await.json(), listed);
    api.advance(1);
    assert_eq!(ids(&revocations(&api).await.json()["sessions"]), [""; 0]);
}

#[tokio::test]
async fn the_list_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("api.sqlite").display());
    let mut api = Api::start(&["--database", &url]).await;
    let ada = api.account("ada").await;
    revoke_a_key(&api, &ada).await;
    let before = revocations(&api).await;
    api.stop();
    api.stopped().await.unwrap();
    let api = Api::start(&["--database", &url]).await;
    let after = revocations(&api).await;
    assert_eq!((after.text.as_str(), after.header("etag")), (before.text.as_str(), before.header("etag")));
}

#[tokio::test]
async fn who_has_the_list_is_told_so_and_nobody_keeps_it_unasked() {
    let api = Api::start(&[]).await;
    let ada = api.account("ada").await;
    let first = revocations(&api).await;
    assert_eq!(first.header("cache-control"), "no-cache");
    assert_eq!(first.header("content-type"), "application/json");
    let known = poll(&api, &first).await;
    assert_eq!((known.status.as_u16(), known.text.as_str()), (304, ""));
    revoke_a_key(&api, &ada).await;
    let changed = poll(&api, &first).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), first.header("etag"));
}

#[tokio::test]
async fn who_has_the_list_is_told_when_something_left_it() {
    let api = Api::start(&["--revocation-retention", "10m"]).await;
    let ada = api.account("ada").await;
    revoke_a_key(&api, &ada).await;
    api.advance(1);
    revoke_a_key(&api, &ada).await;
    let both = revocations(&api).await;
    api.advance(600 + 298);
    assert_eq!(poll(&api, &both).await.status, 304);
    api.advance(1);
    let one = poll(&api, &both).await;
    assert_eq!((one.status.as_u16(), ids(&one.json()["api_keys"]).len()), (200, 1));
}

#[tokio::test]
async fn instances_on_one_database_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("api.sqlite").display());
    let one = Api::start(&["--database", &url]).await;
    let other = Api::start(&["--database", &url]).await;
    let longer = Api::start(&["--database", &url, "--revocation-retention", "2h"]).await;
    let ada = one.account("ada").await;
    let mut had = revocations(&one).await;
    for revoking in [&one, &other] {
        assert_eq!(poll(&other, &had).await.status, 304);
        revoke_a_key(revoking, &ada).await;
        let changed = poll(&other, &had).await;
        assert_eq!((changed.status.as_u16(), &changed.json()), (200, &revocations(&one).await.json()));
        assert_eq!(poll(&one, &changed).await.status, 304);
        assert_eq!(poll(&longer, &changed).await.status, 200, "keys are listed for longer there");
        had = changed;
    }
}

#[tokio::test]
async fn for_who_has_the_list_it_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("api.sqlite").display());
    let api = Api::start(&["--database", &url]).await;
    let ada = api.account("ada").await;
    revoke_a_key(&api, &ada).await;
    let list = revocations(&api).await;
    // From here on, it can't be read.
    let database = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("UPDATE api_keys SET id = 'odd'").execute(&database).await.unwrap();
    assert_eq!(revocations(&api).await.status, 503);
    assert_eq!(poll(&api, &list).await.status, 304);
}

#[tokio::test]
async fn the_list_is_not_on_the_public_port() {
    let api = Api::start(&[]).await;
    api.get("/revocations").await.is_problem(404, "not-found");
}
