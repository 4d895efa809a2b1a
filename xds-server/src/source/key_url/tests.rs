//! Against a real HTTP server on loopback.

use std::sync::Mutex;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use super::*;
use crate::gateway::{SourceFile, load};

type Answer = Arc<Mutex<(StatusCode, String)>>;

async fn issuer(answer: &Answer) -> String {
    let answer = Arc::clone(answer);
    let router = Router::new().route("/jwks", get(move || async move { answer.lock().unwrap().clone() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn gateway(url: &str) -> Gateway {
    let text = format!(
        "version: v1\npolicies: {{auth: {{a: {{any_of: [{{jwt: {{issuer: i, jwks: {{url: '{url}', refresh: 20ms}}}}}}]}}}}}}\n"
    );
    load(vec![SourceFile { path: "gateway.yaml".into(), text }]).unwrap().gateway
}

async fn wait_for(sets: &mut watch::Receiver<KeyUrls>, what: impl FnMut(&KeyUrls) -> bool) {
    tokio::time::timeout(Duration::from_secs(10), sets.wait_for(what)).await.unwrap().unwrap();
}

#[tokio::test]
async fn keys_are_fetched_followed_and_kept_while_the_issuer_fails() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::new(folder.path());
    let answer: Answer = Arc::new(Mutex::new((StatusCode::SERVICE_UNAVAILABLE, String::new())));
    let url = issuer(&answer).await;
    let mut fetcher = KeyFetcher::new(store.clone()).unwrap();
    let mut sets = fetcher.subscribe();
    fetcher.follow(&gateway(&url));

    *answer.lock().unwrap() = (StatusCode::OK, r#"{"keys": [1]}"#.into());
    wait_for(&mut sets, |sets| sets.contains_key(&url)).await;
    *answer.lock().unwrap() = (StatusCode::OK, r#"{"keys": [2]}"#.into());
    wait_for(&mut sets, |sets| *sets[&url] == serde_json::json!({"keys": [2]})).await;

    for bad in [(StatusCode::OK, "<html>"), (StatusCode::OK, "[]"), (StatusCode::NOT_FOUND, "")] {
        *answer.lock().unwrap() = (bad.0, bad.1.into());
        sets.mark_unchanged();
        let changed = tokio::time::timeout(Duration::from_millis(150), sets.changed()).await;
        assert!(changed.is_err(), "the last good keys were given up");
    }
}

#[tokio::test]
async fn keys_outlive_a_restart_while_the_issuer_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::new(folder.path());
    let answer: Answer = Arc::new(Mutex::new((StatusCode::OK, r#"{"keys": [1]}"#.into())));
    let url = issuer(&answer).await;
    let mut first = KeyFetcher::new(store.clone()).unwrap();
    first.follow(&gateway(&url));
    wait_for(&mut first.subscribe(), |sets| sets.contains_key(&url)).await;
    drop(first);

    *answer.lock().unwrap() = (StatusCode::SERVICE_UNAVAILABLE, String::new());
    let mut second = KeyFetcher::new(store.clone()).unwrap();
    second.follow(&gateway(&url));
    wait_for(&mut second.subscribe(), |sets| sets.contains_key(&url)).await;
}

#[tokio::test]
async fn keys_of_an_issuer_no_longer_named_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::new(folder.path());
    let answer: Answer = Arc::new(Mutex::new((StatusCode::OK, r#"{"keys": []}"#.into())));
    let url = issuer(&answer).await;
    let mut fetcher = KeyFetcher::new(store.clone()).unwrap();
    let mut sets = fetcher.subscribe();
    fetcher.follow(&gateway(&url));
    wait_for(&mut sets, |sets| sets.contains_key(&url)).await;
    fetcher.follow(&Gateway::default());
    wait_for(&mut sets, KeyUrls::is_empty).await;
}

#[tokio::test]
async fn a_key_set_without_end_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = KeyStore::new(folder.path());
    let answer: Answer = Arc::new(Mutex::new((StatusCode::OK, "x".repeat(MAX_BYTES + 1))));
    let url = issuer(&answer).await;
    let fetcher = KeyFetcher::new(store.clone()).unwrap();
    let error = key_set(&fetcher.client, &url).await.unwrap_err();
    assert_eq!(error, format!("more than {MAX_BYTES} bytes"));
}
