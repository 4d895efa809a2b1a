//! What was revoked, in the filter that Envoy loads, with an xds-server that a test plays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "called by tests only")]

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use tollgate_wasm_host::{Callout, Host, Outcome, Plugin, Stream, VmName};

use crate::support::built;

mod support;

const CLUSTER: &str = "tollgate/quota";
const NOW: u64 = 1_800_000_000;
/// Until the first call is made.
const SOON: Duration = Duration::from_millis(2);
/// Until another is made after one that failed.
const TICK: Duration = Duration::from_secs(1);
/// How long a call waits.
const TIMEOUT: Duration = Duration::from_secs(25);

fn start(module: &str, workers: usize) -> (Host, Plugin) {
    let host =
        Host::new().starting_at(UNIX_EPOCH + Duration::from_secs(NOW)).cluster(CLUSTER).cluster("keys");
    let ask = json!({
        "cluster": "keys", "authority": "keys", "path": "/", "timeout_ms": 1_000, "positive_ttl_ms": 3_600_000,
        "negative_ttl_ms": 1_000, "cache_size": 10,
    });
    let provider = json!({
        "header": "x-api-key", "keys": [], "introspection": ask, "forward": false, "revocations": "http://list",
    });
    let policy =
        json!({ "realm": "r", "any_of": [{ "api_key": provider }], "optional": false, "on_failure": "deny" });
    let auth = json!({
        "trust_identity_headers": false, "claim_headers": [], "policies": { "p": policy },
        "revocations": { "cluster": CLUSTER, "path": "/revocations", "timeout_ms": TIMEOUT.as_millis() },
    });
    let configuration = match module {
        "auth" => auth,
        _ => json!({ "auth": auth, "rate_limit": { "policies": {} } }),
    };
    let plugin =
        host.plugin(&built(module)).vm_id("v").configuration(configuration.to_string()).workers(workers);
    let plugin = plugin.start().unwrap();
    (host, plugin)
}

/// The call by which a worker asks what is revoked, if one is under way.
fn call(plugin: &Plugin, worker: usize) -> Option<Callout> {
    let mut calls = plugin.callouts();
    calls.retain(|call| call.cluster == CLUSTER && call.owner.vm == VmName::Worker(worker));
    assert!(calls.len() < 2, "one at a time");
    let call = calls.pop()?;
    assert_eq!(call.owner.stream, None, "it dies with no stream");
    let authority = call.headers.text(":authority").unwrap();
    assert!(!authority.contains('/'), "servers refuse {authority}");
    Some(call)
}

/// Answers it, and tells after which cursor it asked.
#[track_caller]
fn reply(plugin: &Plugin, worker: usize, status: u16, body: &str) -> String {
    let call = call(plugin, worker).unwrap_or_else(|| panic!("no call: {}", plugin.logs()));
    let path = call.headers.text(":path").unwrap().into_owned();
    call.reply(status, [("content-type", "application/json")], body).unwrap();
    path.strip_prefix("/revocations?after=").unwrap().to_owned()
}

fn update(cursor: &str, keys: &[&str]) -> String {
    let revoked: Vec<_> = keys.iter().map(|id| json!(["api_key", id, NOW + 3_600])).collect();
    json!({ "cursor": cursor, "revoked": { "http://list": revoked } }).to_string()
}

/// The status of a request with the key.
fn request(plugin: &Plugin, worker: usize) -> u16 {
    answered(&send(plugin, worker))
}

fn send(plugin: &Plugin, worker: usize) -> Stream {
    let request = plugin.worker(worker).request([(":path", "/"), ("x-api-key", "asked")]);
    request.property(["xds", "route_name"], "all;auth=p").send().unwrap()
}

/// The status that it gets, once introspection says that its key is good, if that is asked.
fn answered(stream: &Stream) -> u16 {
    if let Some(introspection) = stream.callout() {
        let body = r#"{"active":true,"consumer":"carol","key_id":"k-1"}"#;
        introspection.reply(200, [("content-type", "application/json")], body).unwrap();
    }
    match stream.outcome() {
        Outcome::LocalReply(reply) => reply.status,
        Outcome::Continue(_) => 200,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_wait_until_a_new_vm_knows_what_was_revoked() {
    for (revoked, status) in [(&["k-1"][..], 401), (&[], 200)] {
        let (host, plugin) = start("gateway", 1);
        let held = [send(&plugin, 0), send(&plugin, 0)];
        host.clock().advance(SOON).unwrap();
        for stream in &held {
            assert_eq!((stream.outcome(), stream.callout().is_some()), (Outcome::Pause, false));
        }
        reply(&plugin, 0, 200, &update("e-1", revoked));
        assert_eq!(held.each_ref().map(answered), [status; 2]);
    }
}

#[test]
fn requests_are_refused_while_nobody_told_what_was_revoked() {
    let (host, plugin) = start("gateway", 1);
    let held = send(&plugin, 0);
    host.clock().advance(SOON).unwrap();
    call(&plugin, 0).unwrap().fail().unwrap();
    assert_eq!(answered(&held), 503, "at once, as there is nothing to wait for");
    assert_eq!(request(&plugin, 0), 503);

    let (host, plugin) = start("gateway", 1);
    let held = send(&plugin, 0);
    host.clock().advance(SOON + TICK + TICK).unwrap();
    assert_eq!(answered(&held), 503, "after a while, though the call goes on");
    reply(&plugin, 0, 200, &update("e-1", &[]));
    assert_eq!(request(&plugin, 0), 200);
}

#[test]
fn requests_wait_for_the_list_that_their_provider_has() {
    let (host, plugin) = start("gateway", 1);
    let held = send(&plugin, 0);
    host.clock().advance(SOON).unwrap();
    reply(&plugin, 0, 200, r#"{"cursor":"e-0","revoked":{"http://another":[]}}"#);
    assert_eq!(answered(&held), 503, "another list is no answer");
    let (host, plugin) = start("gateway", 1);
    let held = send(&plugin, 0);
    host.clock().advance(SOON).unwrap();
    reply(&plugin, 0, 200, r#"{"cursor":"e-0","revoked":{}}"#);
    assert_eq!(held.outcome(), Outcome::Pause, "a server that has just begun");
    reply(&plugin, 0, 200, &update("e-1", &[]));
    assert_eq!(answered(&held), 200);
}

#[test]
fn servers_that_take_turns_are_not_asked_without_pause() {
    let (host, plugin) = start("gateway", 1);
    host.clock().advance(SOON).unwrap();
    reply(&plugin, 0, 200, &update("e-1", &[]));
    for (cursor, before) in [("f-1", "e-1"), ("e-1", "f-1")] {
        assert_eq!(reply(&plugin, 0, 200, &update(cursor, &[])), before);
        assert!(call(&plugin, 0).is_none(), "another server tells all that it knows");
        host.clock().advance(TICK).unwrap();
    }
    assert_eq!(reply(&plugin, 0, 200, &update("e-2", &["k-1"])), "e-1");
    assert!(call(&plugin, 0).is_some());
}

#[test]
fn a_key_that_is_remembered_is_refused_once_its_revocation_is_told() {
    for module in ["gateway", "auth"] {
        let (host, plugin) = start(module, 2);
        host.clock().advance(SOON).unwrap();
        for worker in 0..2 {
            assert_eq!(reply(&plugin, worker, 200, &update("e-0", &[])), "", "a VM begins at the beginning");
            assert_eq!(request(&plugin, worker), 200);
        }
        assert_eq!(reply(&plugin, 0, 200, &update("e-1", &["k-1"])), "e-0");
        assert_eq!((request(&plugin, 0), request(&plugin, 1)), (401, 200), "each VM is told by itself");
        assert_eq!(reply(&plugin, 1, 200, &update("e-1", &["k-1"])), "e-0");
        assert_eq!(request(&plugin, 1), 401);
        assert!(call(&plugin, 0).is_some() && call(&plugin, 1).is_some(), "and asks at once for the next");
        host.clock().advance(TICK).unwrap();
        assert_eq!(host.metric("tollgate.auth.revoked"), Some(2));
        assert_eq!(host.metric("tollgate.auth.introspections"), Some(2), "once a worker");
    }
}

#[test]
fn what_is_known_stays_while_nobody_tells() {
    let (host, plugin) = start("gateway", 1);
    host.clock().advance(SOON).unwrap();
    reply(&plugin, 0, 200, &update("e-1", &["k-1"]));
    type Failure<'a> = &'a dyn Fn(Callout);
    let failures: [Failure<'_>; 6] = [
        &|call| call.fail().unwrap(),
        &|call| call.time_out().unwrap(),
        &|call| call.reset().unwrap(),
        &|call| call.reply(200, [("x", "y")], "<html>").unwrap(),
        &|call| call.reply(200, [("x", "y")], r#"{"cursor":"a b","revoked":{}}"#).unwrap(),
        &|call| call.reply(404, [("x", "y")], "").unwrap(),
    ];
    for (number, fail) in (1..).zip(failures) {
        fail(call(&plugin, 0).unwrap());
        assert!(call(&plugin, 0).is_none(), "not again before a tick");
        assert_eq!(request(&plugin, 0), 401);
        host.clock().advance(TICK).unwrap();
        assert_eq!(host.metric("tollgate.auth.revocation_failures"), Some(number), "told with the next tick");
    }
    assert_eq!(reply(&plugin, 0, 200, &update("f-9", &[])), "e-1");
    assert_eq!(request(&plugin, 0), 401, "another server takes nothing back");
}

#[test]
fn answers_without_news_are_not_asked_for_without_pause() {
    let (host, plugin) = start("gateway", 1);
    host.clock().advance(SOON).unwrap();
    reply(&plugin, 0, 200, &update("e-1", &[]));
    for (status, body) in [(204, String::new()), (200, update("e-1", &[]))] {
        assert_eq!(reply(&plugin, 0, status, &body), "e-1");
        assert!(call(&plugin, 0).is_none(), "a server that holds no call");
        host.clock().advance(TICK).unwrap();
        assert!(call(&plugin, 0).is_some());
    }
    host.clock().advance(Duration::from_secs(20)).unwrap();
    assert_eq!(reply(&plugin, 0, 204, ""), "e-1");
    assert!(call(&plugin, 0).is_some(), "it was held: the next is made at once");
}
