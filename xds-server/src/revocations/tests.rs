//! The route that filters ask, over a real connection to the quota service's port.

use std::time::Instant;

use axum::http::Request;
use tokio::task::JoinSet;
use tollgate_filter_config::{RevocationUpdate, RevokedKind};
use tonic::transport::Channel;
use tower::ServiceExt as _;

use super::*;
use crate::quota::{Counters, Limits, Memory, QuotaServer, Store};

const UNTIL: u64 = 4_102_444_800;

fn revoke(revocations: &Revocations, id: &str) {
    revocations.learn("l", vec![Revoked(RevokedKind::Session, id.to_owned(), UNTIL)]);
}

#[tokio::test]
async fn a_call_is_answered_when_there_is_news_and_ended_when_the_server_stops() {
    let revocations = Revocations::new().unwrap();
    let (_limits, known) = watch::channel(Arc::new(Limits::default()));
    let store = Store::Memory(Memory::default());
    let server =
        QuotaServer::bind("127.0.0.1:0".parse().unwrap(), store, known, Counters::new().unwrap()).unwrap();
    let origin = format!("http://{}", server.address());
    let running = server.with_routes(revocations.router()).start().unwrap();
    // As Envoy asks: HTTP/2.
    let channel = Channel::from_shared(origin).unwrap().connect().await.unwrap();

    let (_, first) = ask(&channel, "").await;
    let first = first.unwrap();
    assert!(first.revoked.is_empty(), "nothing was revoked, and a cursor says so");
    let held = ask(&channel, &first.cursor);
    revoke(&revocations, "a");
    let news = held.await.1.unwrap();
    assert_eq!(news.revoked["l"], [Revoked(RevokedKind::Session, "a".to_owned(), UNTIL)]);

    let held = tokio::spawn(ask(&channel, &news.cursor));
    let began = Instant::now();
    revocations.close();
    assert_eq!(held.await.unwrap(), (204, None));
    running.stop().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "the stop waited for calls that were held");
}

/// Asks as a filter does: the status, and what was told.
fn ask(channel: &Channel, cursor: &str) -> impl Future<Output = (u16, Option<RevocationUpdate>)> + use<> {
    let request = Request::get(format!("{PATH}?after={cursor}")).body(tonic::body::Body::empty()).unwrap();
    let sent = channel.clone().oneshot(request);
    async move {
        let response = sent.await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).ok())
    }
}

async fn newer(revocations: &Revocations, cursor: &str) -> Option<Bytes> {
    revocations.newer(cursor, HOLD).await.unwrap()
}

fn read(answer: &Bytes) -> RevocationUpdate {
    serde_json::from_slice(answer).unwrap()
}

/// Many calls at once, by those who know the same.
fn ask_at_once(revocations: &Revocations, cursor: &str) -> JoinSet<Option<Bytes>> {
    let asked = std::iter::repeat_n((revocations.clone(), cursor.to_owned()), 200);
    asked.map(|(revocations, cursor)| async move { newer(&revocations, &cursor).await }).collect()
}

/// What all of them were answered, which was encoded once.
async fn one_answer(asked: JoinSet<Option<Bytes>>) -> RevocationUpdate {
    let answers = asked.join_all().await.into_iter().collect::<Option<Vec<_>>>().unwrap();
    // None was let go of yet, so what is in one place is one.
    assert!(answers.iter().all(|answer| answer.as_ptr() == answers[0].as_ptr()));
    read(&answers[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_know_the_same_share_one_answer_until_there_is_news() {
    let revocations = Revocations::new().unwrap();
    revoke(&revocations, "a");
    let mut known = one_answer(ask_at_once(&revocations, "")).await;
    for id in ["b", "c"] {
        let held = ask_at_once(&revocations, &known.cursor);
        revoke(&revocations, id);
        let all = one_answer(ask_at_once(&revocations, "")).await;
        let news = one_answer(held).await;
        assert_eq!(news.revoked["l"], [Revoked(RevokedKind::Session, id.to_owned(), UNTIL)]);
        assert_eq!(all.revoked["l"], [known.revoked["l"].as_slice(), &news.revoked["l"]].concat());
        known = all;
    }
    revocations.forget("l");
    assert!(one_answer(ask_at_once(&revocations, "")).await.revoked.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_without_news_ends_in_time() {
    let revocations = Revocations::new().unwrap();
    let cursor = read(&newer(&revocations, "").await.unwrap()).cursor;
    let began = tokio::time::Instant::now();
    assert_eq!(newer(&revocations, &cursor).await, None);
    assert_eq!(began.elapsed(), HOLD);
}

#[test]
fn what_has_no_room_is_counted() {
    let revocations = Revocations::new().unwrap();
    let many = 0..tollgate_filter_core::revocations::MAX_ENTRIES as u64 + 2;
    let many = many.map(|n| Revoked(RevokedKind::Token, n.to_string(), UNTIL + n));
    revocations.learn("l", many.collect());
    assert_eq!(revocations.0.dropped.get(), 2);
}
