//! Against a real HTTP server on loopback.

use std::sync::Mutex;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::get;

use super::*;
use crate::gateway::{SourceFile, load};

type Answer = Arc<Mutex<(StatusCode, String)>>;

async fn issuer(answer: &Answer) -> String {
    let answer = Arc::clone(answer);
    serve(Router::new().route("/jwks", get(move || async move { answer.lock().unwrap().clone() }))).await
}

async fn serve(router: Router) -> String {
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
    let error = key_set(&fetcher.client, &url, None).await.err().unwrap();
    assert_eq!(error, format!("more than {MAX_BYTES} bytes"));
}

#[tokio::test]
async fn keys_that_have_not_changed_do_not_travel_again() {
    let folder = tempfile::tempdir().unwrap();
    let asked: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let answer = move |headers: HeaderMap| async move {
        let tag = headers.get("if-none-match").map(|tag| tag.to_str().unwrap().to_owned());
        let mut noted = noted.lock().unwrap();
        noted.push(tag.clone());
        // The second set comes once the first was found unchanged.
        let (version, body) =
            if noted.len() < 4 { ("\"1\"", r#"{"keys": [1]}"#) } else { ("\"2\"", r#"{"keys": [2]}"#) };
        match tag.as_deref() == Some(version) {
            true => (StatusCode::NOT_MODIFIED, [("etag", version)], ""),
            false => (StatusCode::OK, [("etag", version)], body),
        }
    };
    let url = serve(Router::new().route("/jwks", get(answer))).await;
    let mut fetcher = KeyFetcher::new(KeyStore::new(folder.path())).unwrap();
    let mut sets = fetcher.subscribe();
    fetcher.follow(&gateway(&url));
    wait_for(&mut sets, |sets| sets.get(&url).is_some_and(|set| **set == serde_json::json!({"keys": [2]})))
        .await;
    let asked = asked.lock().unwrap();
    let tag = |text: &str| Some(text.to_owned());
    assert_eq!(asked[..4], [None, tag("\"1\""), tag("\"1\""), tag("\"1\"")]);
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let router = Router::new()
        .route("/jwks", get(|| async { Redirect::temporary("/there") }))
        .route("/there", get(|| async { r#"{"keys": [1]}"# }))
        .route("/round", get(|| async { Redirect::temporary("/round") }));
    let url = serve(router).await;
    let fetcher = KeyFetcher::new(KeyStore::new(folder.path())).unwrap();
    assert!(key_set(&fetcher.client, &url, None).await.is_ok_and(|keys| keys.set.is_some()));
    let error = key_set(&fetcher.client, &url.replace("/jwks", "/round"), None).await.err().unwrap();
    assert!(error.contains("redirected too often"), "{error}");
}

#[test]
fn tls_is_not_left_by_a_redirect() {
    let url = |text: &str| Url::parse(text).unwrap();
    let (safe, open) = (url("https://issuer/jwks"), url("http://issuer/jwks"));
    for (previous, next, follows) in
        [(&safe, &safe, true), (&open, &safe, true), (&open, &open, true), (&safe, &open, false)]
    {
        assert_eq!(why_not(std::slice::from_ref(previous), next).is_none(), follows, "{previous} {next}");
    }
}

#[test]
fn the_yaml_then_the_issuer_says_when_to_fetch_again() {
    let seconds = Duration::from_secs;
    for (refresh, fresh_for, expected) in [
        (None, None, 60),
        (None, Some(300), 300),
        (None, Some(0), 10),
        (None, Some(86_400), 600),
        (Some(5), Some(300), 5),
        (Some(3600), Some(1), 3600),
    ] {
        let found = pause(refresh.map(seconds), fresh_for.map(seconds));
        assert_eq!(found, seconds(expected), "{refresh:?} {fresh_for:?}");
    }
    for _ in 0..100 {
        assert!((seconds(54)..=seconds(60)).contains(&jittered(seconds(60))));
    }
}
