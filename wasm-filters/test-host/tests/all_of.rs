//! A policy with several keys to ask about: one call after another, and the request waits for all.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use serde_json::{Value, json};
use tollgate_wasm_host::{HeaderMap, Host, Outcome, Plugin, Stream};

use crate::support::built;

mod support;

fn asked(header: &str, cluster: &str) -> Value {
    let introspection = json!({
        "cluster": cluster, "authority": cluster, "path": "/", "timeout_ms": 100, "positive_ttl_ms": 60_000,
        "negative_ttl_ms": 0, "cache_size": 10,
    });
    json!({ "api_key": { "header": header, "keys": [], "introspection": introspection, "forward": false } })
}

fn gateway(second: &str, on_failure: &str) -> (Host, Plugin) {
    let policy = json!({
        "realm": "r", "all_of": [asked("x-app", "apps"), asked("x-user", second)], "optional": false,
        "on_failure": on_failure,
    });
    let auth = json!({ "trust_identity_headers": false, "claim_headers": [], "policies": { "p": policy } });
    let host = Host::new().cluster("apps").cluster("users");
    let plugin = host.plugin(&built("auth")).configuration(auth.to_string()).start().expect("starts");
    (host, plugin)
}

fn send(plugin: &Plugin) -> Stream {
    let request = plugin.worker(0).request([(":path", "/")]).property(["xds", "route_name"], "all;auth=p");
    request.header("x-app", "app-key").header("x-user", "user-key").send().expect("no trap")
}

fn answer(stream: &Stream, cluster: &str, body: &str) {
    let callout = stream.callout().expect("it asks");
    assert_eq!(callout.cluster, cluster);
    callout.reply(200, HeaderMap::new(), body.as_bytes()).expect("no trap");
}

fn active(consumer: &str) -> String {
    format!(r#"{{"active":true,"consumer":"{consumer}","key_id":"k"}}"#)
}

#[test]
fn a_request_waits_for_every_key_to_be_asked_about() {
    let (_host, plugin) = gateway("users", "deny");
    let stream = send(&plugin);
    answer(&stream, "apps", &active("app"));
    assert_eq!(stream.outcome(), Outcome::Pause, "the other key is not known yet");
    answer(&stream, "users", &active("user"));
    let outcome = stream.outcome();
    let message = outcome.forwarded().expect("it passes");
    assert_eq!(message.headers.text("x-consumer-id").as_deref(), Some("app"));
    assert!(message.headers.get("x-app").is_none() && message.headers.get("x-user").is_none());
    assert!(matches!(send(&plugin).outcome(), Outcome::Continue(_)), "both are remembered");
}

#[test]
fn a_bad_key_ends_it_whichever_it_is() {
    for first_is_bad in [true, false] {
        let (_host, plugin) = gateway("users", "deny");
        let stream = send(&plugin);
        let bad = r#"{"active":false}"#;
        if !first_is_bad {
            answer(&stream, "apps", &active("app"));
        }
        answer(&stream, if first_is_bad { "apps" } else { "users" }, bad);
        let Outcome::LocalReply(reply) = stream.outcome() else { panic!("{:?}", stream.outcome()) };
        assert_eq!(reply.headers.text(":status").as_deref(), Some("401"));
        assert!(stream.callout().is_none());
    }
}

#[test]
fn a_service_that_envoy_does_not_know_is_as_one_that_is_away() {
    for (on_failure, status) in [("deny", Some("503")), ("allow", None)] {
        let (_host, plugin) = gateway("nowhere", on_failure);
        let stream = send(&plugin);
        answer(&stream, "apps", &active("app"));
        match stream.outcome() {
            Outcome::LocalReply(reply) => assert_eq!(reply.headers.text(":status").as_deref(), status),
            Outcome::Continue(message) => {
                assert_eq!(status, None);
                assert!(message.headers.get("x-consumer-id").is_none(), "it passes as nobody");
            }
            other => panic!("{other:?}"),
        }
    }
}
