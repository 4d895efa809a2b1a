//! The route that filters ask, over a real connection to the quota service's port.

use std::time::Instant;

use axum::http::Request;
use tollgate_filter_config::RevokedKind;
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

#[tokio::test(start_paused = true)]
async fn a_call_without_news_ends_in_time() {
    let revocations = Revocations::new().unwrap();
    let cursor = revocations.newer("", HOLD).await.unwrap().cursor;
    let began = tokio::time::Instant::now();
    assert_eq!(revocations.newer(&cursor, HOLD).await, None);
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
