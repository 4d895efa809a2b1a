//! Against a real HTTP server on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::*;
use crate::gateway::{SourceFile, load};

/// A service whose list a test changes.
#[derive(Clone, Default)]
struct Service {
    answer: Arc<Mutex<(u16, String)>>,
    not_modified: Arc<AtomicUsize>,
}

impl Service {
    async fn start(&self) -> String {
        let service = self.clone();
        let router =
            Router::new().route("/list", get(move |headers: HeaderMap| service.clone().answer(headers)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/list", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn say(&self, status: u16, list: &str) {
        *self.answer.lock().unwrap() = (status, list.to_owned());
    }

    /// With a tag that follows the content, as api-service has it.
    async fn answer(self, headers: HeaderMap) -> Response {
        let (status, body) = self.answer.lock().unwrap().clone();
        let etag = format!("\"{:x}\"", xxh3_64(body.as_bytes()));
        if status == 200 && headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == *etag) {
            self.not_modified.fetch_add(1, Ordering::Relaxed);
            return StatusCode::NOT_MODIFIED.into_response();
        }
        (StatusCode::from_u16(status).unwrap(), [(header::ETAG, etag)], body).into_response()
    }
}

/// Ends in the year 2100.
const UNTIL: u64 = 4_102_444_800;

fn keys(ids: &[&str]) -> String {
    let entries: Vec<Value> = ids.iter().map(|id| json!({"id": id, "until": UNTIL})).collect();
    json!({"api_keys": entries, "later": []}).to_string()
}

fn gateway(url: &str) -> Gateway {
    let text = format!(
        "version: v1\npolicies: {{auth: {{a: {{any_of: [{{api_key: {{keys: [{{sha256: {}, consumer: c}}], \
         revocations: {{url: '{url}', every: 100ms}}}}}}]}}}}}}\n",
        "0".repeat(64)
    );
    load(vec![SourceFile { path: "gateway.yaml".into(), text }]).unwrap_or_else(|e| panic!("{e}")).gateway
}

async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn ids(revocations: &Revocations) -> Vec<String> {
    let all = revocations.everything();
    all.revoked.into_values().flatten().map(|Revoked(_, id, _)| id).collect()
}

fn error(revocations: &Revocations) -> Option<String> {
    serde_json::to_value(revocations.status().into_values().next()).unwrap()["error"]
        .as_str()
        .map(str::to_owned)
}

#[tokio::test]
async fn a_list_is_polled_with_its_tag_and_kept_while_the_service_fails() {
    let (folder, service) = (tempfile::tempdir().unwrap(), Service::default());
    service.say(503, "");
    let url = service.start().await;
    let revocations = Revocations::new().unwrap();
    let mut fetcher = RevocationFetcher::new(folder.path(), revocations.clone()).unwrap();
    fetcher.follow(&gateway(&url));
    wait_for("a failure", || error(&revocations).is_some()).await;

    service.say(200, &keys(&["a"]));
    wait_for("the first list", || ids(&revocations) == ["a"]).await;
    wait_for("the answer that nothing changed", || service.not_modified.load(Ordering::Relaxed) >= 2).await;
    service.say(200, &keys(&["a", "b"]));
    wait_for("the second list", || ids(&revocations) == ["a", "b"]).await;
    assert_eq!(error(&revocations), None);

    let old = r#"{"api_keys": [{"id": "c"}]}"#;
    for (status, bad) in [(404, ""), (200, "<html>"), (200, "{}"), (200, "[]"), (200, old)] {
        service.say(200, &keys(&["a", "b"]));
        wait_for("a good answer", || error(&revocations).is_none()).await;
        service.say(status, bad);
        wait_for("the bad answer to be told", || error(&revocations).is_some()).await;
        assert_eq!(ids(&revocations), ["a", "b"], "{bad}");
    }
}

#[tokio::test]
async fn a_list_outlives_a_restart_while_the_service_is_down() {
    let (folder, service) = (tempfile::tempdir().unwrap(), Service::default());
    service.say(200, &keys(&["a"]));
    let url = service.start().await;
    let first = Revocations::new().unwrap();
    let mut fetcher = RevocationFetcher::new(folder.path(), first.clone()).unwrap();
    fetcher.follow(&gateway(&url));
    wait_for("the list", || ids(&first) == ["a"] && std::fs::read_dir(folder.path()).unwrap().count() == 1)
        .await;
    drop(fetcher);

    service.say(503, "");
    let second = Revocations::new().unwrap();
    let mut fetcher = RevocationFetcher::new(folder.path(), second.clone()).unwrap();
    fetcher.follow(&gateway(&url));
    wait_for("the list that was kept", || ids(&second) == ["a"]).await;
    wait_for("the failure", || error(&second).is_some()).await;
    assert_eq!(ids(&second), ["a"]);
}

#[tokio::test]
async fn a_list_that_is_no_longer_named_is_forgotten() {
    let (folder, service) = (tempfile::tempdir().unwrap(), Service::default());
    service.say(200, &keys(&["a"]));
    let url = service.start().await;
    let revocations = Revocations::new().unwrap();
    let mut fetcher = RevocationFetcher::new(folder.path(), revocations.clone()).unwrap();
    fetcher.follow(&gateway(&url));
    wait_for("the list", || ids(&revocations) == ["a"]).await;
    fetcher.follow(&Gateway::default());
    assert!(ids(&revocations).is_empty() && revocations.status().is_empty());
}

#[tokio::test]
async fn a_list_without_end_is_given_up() {
    let service = Service::default();
    service.say(200, &"x".repeat(MAX_BYTES + 1));
    let url = service.start().await;
    let error = list(&client().unwrap(), &url, None).await.unwrap_err();
    assert_eq!(error, format!("more than {MAX_BYTES} bytes"));
}

#[test]
fn every_kind_of_entry_is_read() {
    let text = r#"{"api_keys":[{"id":"k","until":1}],"tokens":[{"id":"t","until":2}],"sessions":[{"id":"s","until":3,"by":"x"}]}"#;
    let revoked = |kind, id: &str, until| Revoked(kind, id.to_owned(), until);
    let expected = [
        revoked(RevokedKind::ApiKey, "k", 1),
        revoked(RevokedKind::Token, "t", 2),
        revoked(RevokedKind::Session, "s", 3),
    ];
    assert_eq!(parse(text).unwrap(), expected);
}
