//! A million keys, through the filter that Envoy loads: what a VM and the shared data hold.
//!
//! `cargo test --workspace --test many_keys -- --nocapture` shows the figures.

#![allow(clippy::unwrap_used, reason = "called by tests only")]

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_wasm_host::{Host, Outcome, Plugin};

use crate::support::built;

mod support;

const KEYS: u32 = 1_000_000;
/// Limits of each request, and so keys: fewer requests make as many.
const LIMITS: u32 = 10;
/// Requests at once; then a millisecond passes.
const AT_ONCE: u32 = 40;
const CLUSTER: &str = "tollgate/quota";
const MIB: usize = 1 << 20;

fn start(scope: &str) -> (Host, Plugin) {
    let mut limit = json!({
        "key": [{ "header": "x-client" }], "limit": 100, "period_ms": 3_600_000, "burst": 100, "cost": 1,
        "shadow": false,
    });
    if scope == "global" {
        limit["global"] = json!({ "lease_ms": 2000, "alone_percent": null });
    }
    let limits: Vec<Value> = (1..=LIMITS)
        .map(|number| {
            limit["name"] = format!("p/{number}").into();
            limit.clone()
        })
        .collect();
    let configuration = json!({
        "quota": { "cluster": CLUSTER, "timeout_ms": 500 },
        "policies": { "p": { "headers": "limited", "limits": limits } },
    });
    let host = Host::new().cluster(CLUSTER);
    let plugin = host.plugin(&built("rate_limit")).configuration(configuration.to_string()).start().unwrap();
    (host, plugin)
}

/// Clients with one request each; `answer` has a turn every millisecond. How many were let through.
fn crowd(host: &Host, plugin: &Plugin, mut answer: impl FnMut(&Plugin)) -> u32 {
    let (mut waiting, mut passed) = (Vec::new(), 0);
    for client in 0..KEYS / LIMITS {
        let request = plugin.worker(0).request([(":path", "/"), ("x-client", &client.to_string())]);
        let mut stream = request.property(["xds", "route_name"], "all;rate_limit=p").send().unwrap();
        match stream.outcome() {
            Outcome::Continue(_) => {
                passed += 1;
                stream.finish().unwrap();
            }
            _ => waiting.push(stream),
        }
        if client % AT_ONCE == AT_ONCE - 1 {
            host.clock().advance(Duration::from_millis(1)).unwrap();
            answer(plugin);
            for mut stream in waiting.drain(..) {
                passed += u32::from(matches!(stream.outcome(), Outcome::Continue(_)));
                stream.finish().unwrap();
            }
        }
    }
    assert!(plugin.traps().is_empty(), "{}", plugin.logs());
    passed
}

fn told(what: &str, host: &Host, plugin: &Plugin, before: usize, passed: u32) -> usize {
    let (values, bytes) = host.shared_data_size();
    let grown = plugin.worker(0).memory_bytes() - before;
    let memory = plugin.worker(0).memory_bytes();
    println!(
        "{what}: {KEYS} keys in {passed} requests, {values} shared values of {bytes} bytes, {memory} bytes of linear memory, \
         {grown} more than at the start, {:?} forgotten",
        host.metric("tollgate.rate_limit.evicted").unwrap_or(0)
    );
    assert_eq!(values, 4_096 + 1, "the slots and their seed");
    assert!(bytes < MIB, "{bytes}");
    grown
}

#[test]
fn a_million_keys_of_a_local_limit_take_no_memory_of_a_worker() {
    let (host, plugin) = start("local");
    let before = plugin.worker(0).memory_bytes();
    let passed = crowd(&host, &plugin, |_| {});
    let grown = told("local", &host, &plugin, before, passed);
    assert_eq!(passed, KEYS / LIMITS);
    assert!(grown <= MIB, "{grown}");
}

#[test]
fn a_million_keys_of_a_shared_limit_take_bounded_memory() {
    let (host, plugin) = start("global");
    let before = plugin.worker(0).memory_bytes();
    let mut calls = 0;
    let passed = crowd(&host, &plugin, |plugin| {
        for call in plugin.grpc_callouts() {
            calls += 1;
            // `OK`, a known limit, one token granted, nothing left in the bucket; a return's answer is not looked at.
            let status = [0x12, 8, 8, 1, 0x12, 0, 0x2a, 2, 8, 1];
            let statuses = descriptors(&call.messages[0]);
            let response = [&[8, 1][..], &status.repeat(statuses)].concat();
            call.message(response).unwrap();
        }
    });
    println!("{calls} calls");
    let grown = told("global", &host, &plugin, before, passed);
    assert_eq!(passed, KEYS / LIMITS, "all were answered in time");
    assert!(grown <= 12 * MIB, "{grown}");
}

/// How many descriptors (field 2) a request has.
fn descriptors(mut message: &[u8]) -> usize {
    let mut count = 0;
    while let [tag, rest @ ..] = message {
        let (mut length, mut at) = (0, 0);
        while rest[at] >= 0x80 {
            length |= usize::from(rest[at] & 0x7f) << (7 * at);
            at += 1;
        }
        length |= usize::from(rest[at]) << (7 * at);
        count += usize::from(*tag == 0x12);
        message = &rest[at + 1 + length..];
    }
    count
}
