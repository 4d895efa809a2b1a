//! When a group has arrived, and who is told.

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::*;
use crate::discovery::session::{Request, SessionLimits};

const CDS: &TypeUrl = &TypeUrl::CLUSTER;

fn snapshot(body: &str) -> Arc<Snapshot> {
    let mut builder = Snapshot::builder();
    builder.insert(CDS, "a", body.as_bytes());
    Arc::new(builder.build())
}

fn connect(registry: &Registry, group: &str) -> (Registration, Session) {
    let proxy = Proxy::clone(&Proxy::named("envoy", group));
    let session = || Session::new(Flavour::Delta, Scope::Aggregated, SessionLimits::default());
    (registry.connect(proxy, Arc::new(Mutex::new(session()))), session())
}

fn request(registration: &Registration, session: &mut Session, nonce: &str, error: Option<&str>) {
    let request = DeltaDiscoveryRequest {
        type_url: CDS.to_string(),
        response_nonce: nonce.into(),
        error_detail: error.map(|message| envoy_types::pb::google::rpc::Status {
            message: message.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let turn = session.on_request(Request::Delta(request), SystemTime::UNIX_EPOCH).unwrap();
    registration.report(
        session,
        turn.responses.iter().map(|response| response.type_url.clone()),
        turn.answer,
    );
}

#[test]
fn a_group_arrives_when_its_last_stream_acked() {
    let (registry, content) = (Registry::new(), snapshot("1"));
    let mut streams = [connect(&registry, "edge"), connect(&registry, "edge")];
    for (registration, session) in &mut streams {
        session.on_snapshot(Some(content.clone()));
        request(registration, session, "", None);
    }
    assert_eq!(registry.progress("edge", &content).pending.len(), 2);
    request(&streams[0].0, &mut streams[0].1, "1", None);
    assert!(!registry.all_acked("edge", &content));
    request(&streams[1].0, &mut streams[1].1, "1", None);
    assert!(registry.all_acked("edge", &content));
    assert!(!registry.all_acked("edge", &snapshot("2")));
}

#[test]
fn a_stream_counts_for_the_types_it_subscribes_to_and_its_group_only() {
    let registry = Registry::new();
    let _silent = connect(&registry, "edge");
    let (other, mut session) = connect(&registry, "sidecar");
    session.on_snapshot(Some(snapshot("1")));
    request(&other, &mut session, "", None);
    assert!(registry.all_acked("edge", &snapshot("2")));
    assert!(!registry.all_acked("sidecar", &snapshot("2")));
}

#[test]
fn a_refusal_is_told_from_a_missing_answer() {
    let (registry, content) = (Registry::new(), snapshot("1"));
    let (registration, mut session) = connect(&registry, "edge");
    session.on_snapshot(Some(content.clone()));
    request(&registration, &mut session, "", None);
    request(&registration, &mut session, "1", Some("bad"));
    let progress = registry.progress("edge", &content);
    assert_eq!((progress.arrived, progress.pending.len(), progress.refused.len()), (0, 0, 1));
    assert_eq!(progress.refused[0].2.nack.as_ref().unwrap().message, "bad");
}

#[test]
fn a_stream_that_ends_no_longer_counts_and_watchers_are_woken() {
    let (registry, content) = (Registry::new(), snapshot("1"));
    let (registration, mut session) = connect(&registry, "edge");
    session.on_snapshot(Some(content.clone()));
    request(&registration, &mut session, "", None);
    let mut revision = registry.watch();
    revision.mark_unchanged();
    drop(registration);
    assert!(revision.has_changed().unwrap());
    assert!(registry.all_acked("edge", &content));
}

#[test]
fn a_type_a_peer_made_up_is_counted_as_other() {
    let counters = Counters::default();
    counters.push(&TypeUrl::new("type.example/made-up"));
    counters.push(CDS);
    let pushed: Vec<_> =
        counters.read().filter(|count| count.pushes > 0).map(|count| count.type_name).collect();
    assert_eq!(pushed, ["CDS", "other"]);
}
