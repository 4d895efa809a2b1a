//! Shared limits in the filter that Envoy loads, with a quota service that a test plays.

#![allow(clippy::unwrap_used, reason = "called by tests only")]

use std::time::{Duration, UNIX_EPOCH};

use tollgate_wasm_host::{ClusterState, GrpcCallout, Host, Outcome, Plugin, Stream};

use crate::support::built;

mod support;

const CLUSTER: &str = "tollgate/quota";
/// Until the call is made.
const SOON: Duration = Duration::from_millis(2);

fn start(alone: Option<u32>, workers: usize) -> (Host, Plugin) {
    start_with(alone, workers, "")
}

/// With further limits.
fn start_with(alone: Option<u32>, workers: usize, further: &str) -> (Host, Plugin) {
    let host = Host::new().starting_at(UNIX_EPOCH + Duration::from_secs(1_800_000_000)).cluster(CLUSTER);
    let alone = alone.map_or("null".to_owned(), |percent| percent.to_string());
    let configuration = format!(
        r#"{{"quota": {{"cluster": "{CLUSTER}", "timeout_ms": 500}}, "policies": {{"shared": {{
            "headers": "always", "limits": [{{"name": "shared", "key": [{{"header": "x-tenant"}}], "limit": 1000,
            "period_ms": 1000, "burst": 1000, "cost": 1, "shadow": false,
            "global": {{"lease_ms": 2000, "alone_percent": {alone}}}}}{further}]}}}}}}"#
    );
    let plugin =
        host.plugin(&built("rate_limit")).vm_id("quota").configuration(configuration).workers(workers);
    let plugin = plugin.start().unwrap();
    (host, plugin)
}

fn request(plugin: &Plugin, worker: usize, tenant: &str) -> Stream {
    let request = plugin.worker(worker).request([(":path", "/"), ("x-tenant", tenant)]);
    request.property(["xds", "route_name"], "all;rate_limit=shared").send().unwrap()
}

/// The call that is under way, after the tick that makes it.
fn call(host: &Host, plugin: &Plugin) -> GrpcCallout {
    host.clock().advance(SOON).unwrap();
    let mut calls = plugin.grpc_callouts();
    assert_eq!(calls.len(), 1, "{}", plugin.logs());
    let call = calls.remove(0);
    assert_eq!((call.cluster.as_str(), call.method.as_str()), (CLUSTER, "ShouldRateLimit"));
    assert_eq!(call.service, "envoy.service.ratelimit.v3.RateLimitService");
    assert_eq!(call.owner.stream, None, "it dies with no stream");
    call
}

/// A field that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A status that grants so many tokens, with none left in the bucket.
fn grants(tokens: u8) -> Vec<u8> {
    [&[8, 1][..], &field(2, &[]), &field(5, &[8, tokens])].concat()
}

/// A status that grants nothing for some seconds.
fn over(seconds: u8) -> Vec<u8> {
    [&[8, 2][..], &field(2, &[]), &field(4, &[8, seconds])].concat()
}

fn response(statuses: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![8, 1];
    for status in statuses {
        bytes.extend(field(2, status));
    }
    bytes
}

/// How many descriptors a call has.
fn descriptors(call: &GrpcCallout) -> usize {
    let (mut message, mut count) = (call.messages[0].as_slice(), 0);
    while let [tag, length, rest @ ..] = message {
        assert!(*length < 0x80, "short fields only");
        count += usize::from(*tag == 2 << 3 | 2);
        message = &rest[usize::from(*length)..];
    }
    count
}

fn status(stream: &Stream) -> Option<u16> {
    match stream.outcome() {
        Outcome::LocalReply(reply) => Some(reply.status),
        Outcome::Continue(_) => Some(200),
        _ => None,
    }
}

/// A way for a call to fail.
type Failure<'a> = &'a dyn Fn(&Host, GrpcCallout);

/// Nothing passes while nobody can say.
const DENY: Option<u32> = None;

#[test]
fn a_first_request_waits_for_its_tokens_and_the_next_ones_do_not() {
    let (host, plugin) = start(DENY, 1);
    let mut first = request(&plugin, 0, "a");
    assert_eq!(status(&first), None, "paused");
    call(&host, &plugin).message(response(&[grants(9)])).unwrap();
    assert_eq!(status(&first), Some(200));
    let Outcome::Continue(answer) = first.response([(":status", "200")]).send().unwrap() else { panic!() };
    assert_eq!(answer.headers.text("ratelimit-policy").as_deref(), Some(r#""shared";q=1000;w=1"#));
    assert_eq!(answer.headers.text("x-ratelimit-remaining").as_deref(), Some("8"));
    for _ in 0..6 {
        assert_eq!(status(&request(&plugin, 0, "a")), Some(200));
    }
    assert_eq!(plugin.traps().len(), 0);
}

#[test]
fn a_request_has_limits_of_both_kinds_and_what_one_refuses_costs_the_other_nothing() {
    let own = r#", {"name": "shared/2", "key": [{"header": "x-tenant"}], "limit": 2, "period_ms": 3600000, "burst": 2,
        "cost": 1, "shadow": false}"#;
    let (host, plugin) = start_with(DENY, 1, own);
    let mut first = request(&plugin, 0, "a");
    call(&host, &plugin).message(response(&[grants(9)])).unwrap();
    let Outcome::Continue(answer) = first.response([(":status", "200")]).send().unwrap() else { panic!() };
    let expected = r#""shared";r=8;t=1, "shared/2";r=1;t=1800"#;
    assert_eq!(answer.headers.text("ratelimit").as_deref(), Some(expected));
    let statuses = [(); 3].map(|()| status(&request(&plugin, 0, "a")));
    assert_eq!(statuses, [Some(200), Some(429), Some(429)]);
    host.clock().advance(Duration::from_millis(2_300)).unwrap();
    let message = &plugin.grpc_callouts()[0].messages[0];
    assert!(message.ends_with(&[0x1a, 2, 8, 7, 0x20, 1]), "seven of nine are left: {message:x?}");
}

#[test]
fn one_call_serves_all_keys_and_each_worker_has_its_own_lease() {
    let (host, plugin) = start(DENY, 2);
    let streams: Vec<Stream> = ["a", "b", "c"].iter().map(|tenant| request(&plugin, 0, tenant)).collect();
    let call = call(&host, &plugin);
    assert_eq!(descriptors(&call), 3);
    call.message(response(&[grants(9), over(3), grants(1)])).unwrap();
    assert_eq!(streams.iter().map(status).collect::<Vec<_>>(), [Some(200), Some(429), Some(200)]);
    let other = request(&plugin, 1, "a");
    assert_eq!(status(&other), None, "what one worker was granted is no other's");
}

#[test]
fn over_the_limit_is_said_without_a_call() {
    let (host, plugin) = start(DENY, 1);
    let first = request(&plugin, 0, "a");
    call(&host, &plugin).message(response(&[over(3)])).unwrap();
    let Outcome::LocalReply(reply) = first.outcome() else { panic!("{:?}", first.outcome()) };
    assert_eq!((reply.status, reply.headers.text("retry-after").as_deref()), (429, Some("3")));
    for _ in 0..5 {
        assert_eq!(status(&request(&plugin, 0, "a")), Some(429));
    }
    host.clock().advance(SOON).unwrap();
    assert_eq!(plugin.grpc_callouts().len(), 0);
    host.clock().advance(Duration::from_secs(1)).unwrap();
    assert_eq!(status(&request(&plugin, 0, "a")), None, "it is asked again after a second");
}

#[test]
fn a_low_lease_is_refilled_before_it_is_used_up() {
    let (host, plugin) = start(DENY, 1);
    request(&plugin, 0, "a");
    call(&host, &plugin).message(response(&[grants(100)])).unwrap();
    for _ in 0..80 {
        assert_eq!(status(&request(&plugin, 0, "a")), Some(200));
    }
    call(&host, &plugin).message(response(&[grants(100)])).unwrap();
    for _ in 0..100 {
        assert_eq!(status(&request(&plugin, 0, "a")), Some(200), "nobody waited");
    }
}

#[test]
fn what_is_left_goes_back_when_a_lease_is_over() {
    let (host, plugin) = start(DENY, 1);
    let _first = request(&plugin, 0, "a");
    call(&host, &plugin).message(response(&[grants(9)])).unwrap();
    host.clock().advance(Duration::from_millis(2_300)).unwrap();
    let calls = plugin.grpc_callouts();
    assert_eq!(calls.len(), 1);
    // `is_negative_hits`, and eight tokens.
    let message = &calls[0].messages[0];
    assert!(message.ends_with(&[0x1a, 2, 8, 8, 0x20, 1]), "{message:x?}");
}

#[test]
fn while_the_service_is_away_requests_are_denied_or_counted_here() {
    let failures: [Failure<'_>; 3] = [
        &|_, call| call.close(14, "no healthy upstream").unwrap(),
        &|_, call| call.message(b"\xff".to_vec()).unwrap(),
        &|host, call| {
            drop(call);
            host.clock().advance(Duration::from_millis(1_300)).unwrap();
        },
    ];
    for fail in failures {
        let (host, plugin) = start(DENY, 1);
        let first = request(&plugin, 0, "a");
        fail(&host, call(&host, &plugin));
        assert_eq!(status(&first), Some(503));
        assert_eq!(status(&request(&plugin, 0, "a")), Some(503), "and nobody waits meanwhile");

        let (host, plugin) = start(Some(1), 1);
        let first = request(&plugin, 0, "a");
        fail(&host, call(&host, &plugin));
        assert_eq!(status(&first), Some(200));
        let passed = (0..100).filter(|_| status(&request(&plugin, 0, "a")) == Some(200)).count();
        // In the second that a lost call takes, its bucket refills.
        assert!((9..=10).contains(&passed), "ten of a thousand are its share, {passed} passed");
    }
}

#[test]
fn an_unknown_cluster_is_no_trap_and_a_service_that_is_back_is_found() {
    let (host, plugin) = start(DENY, 1);
    host.set_cluster(CLUSTER, ClusterState::Unknown);
    let first = request(&plugin, 0, "a");
    host.clock().advance(SOON).unwrap();
    assert_eq!(status(&first), Some(503));
    host.set_cluster(CLUSTER, ClusterState::HasHosts);
    host.clock().advance(Duration::from_millis(500)).unwrap();
    assert_eq!(status(&request(&plugin, 0, "a")), Some(503), "one finds out, and does not wait for it");
    call(&host, &plugin).message(response(&[grants(9)])).unwrap();
    assert_eq!(status(&request(&plugin, 0, "a")), Some(200));
    assert!(plugin.traps().is_empty());
}

#[test]
fn a_request_that_went_away_while_it_waited_is_no_trap() {
    let (host, plugin) = start(DENY, 1);
    let (mut gone, stays) = (request(&plugin, 0, "a"), request(&plugin, 0, "a"));
    gone.finish().unwrap();
    drop(gone);
    call(&host, &plugin).message(response(&[grants(2)])).unwrap();
    assert_eq!(status(&stays), Some(200));
    assert!(plugin.traps().is_empty(), "{}", plugin.logs());
}
