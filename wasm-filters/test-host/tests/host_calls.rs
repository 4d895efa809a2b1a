//! What a request costs in Envoy: entries into the VM, and host calls. These are the filters' budget, kept by name.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use serde_json::json;
use tollgate_wasm_host::{Host, Outcome, Plugin};

use crate::support::built;

mod support;

/// HS256 by the key below, until the year 2100.
const BEARER: &str = "Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6ImJlbmNoIn0.\
    eyJpc3MiOiJodHRwczovL2JlbmNoLnRlc3QiLCJhdWQiOiJhcGkiLCJzdWIiOiJiZW5jaCIsImV4cCI6NDEwMjQ0NDgwMH0.\
    OMDuTDB85QRK4R1EPRcTMVs846gahH0EzK1qKzuvukg";

/// What every stream costs.
const ENTRIES: [(&str, u64); 3] =
    [("proxy_on_context_create", 1), ("proxy_on_request_headers", 1), ("proxy_on_response_headers", 1)];
/// What is read of every request; each result needs a place in the VM.
const READS: [(&str, u64); 3] =
    [("proxy_get_property", 1), ("proxy_get_header_map_pairs", 1), ("proxy_on_memory_allocate", 2)];

fn gateway(headers: &str) -> (Host, Plugin) {
    let jwks = json!({ "keys": [{ "kty": "oct", "kid": "bench", "k": "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw" }] });
    let jwt = json!({
        "issuer": "https://bench.test", "audiences": ["api"], "algorithms": ["HS256"], "jwks": jwks,
        "clock_skew_seconds": 0, "header": "authorization", "prefix": "Bearer ", "required_scopes": [], "required_claims": [],
        "claims_to_headers": [], "forward": false,
    });
    let limit = json!({
        "name": "high", "key": ["consumer"], "limit": 1_000_000, "period_ms": 1_000, "burst": 1_000_000, "cost": 1,
        "shadow": false,
    });
    let configuration = json!({
        "auth": {
            "trust_identity_headers": false, "claim_headers": [],
            "policies": { "tokens": { "realm": "r", "any_of": [{ "jwt": jwt }], "optional": false, "on_failure": "deny" } },
            "requirements": { "r": { "scopes": [], "claims": [{ "claim": "sub", "any_of": ["bench"] }] } },
        },
        "rate_limit": { "policies": { "high": { "limits": [limit], "headers": headers } } },
    });
    let host = Host::new();
    let plugin =
        host.plugin(&built("gateway")).configuration(configuration.to_string()).start().expect("starts");
    (host, plugin)
}

/// What the second of two equal requests costs: the first fills caches.
fn cost_of(plugin: &Plugin, policies: &str, bearer: Option<&str>) -> BTreeMap<&'static str, u64> {
    let route = format!("all;{policies}");
    for _ in 0..2 {
        plugin.worker(0).take_calls();
        let mut request = plugin.worker(0).request([(":path", "/")]).property(["xds", "route_name"], &route);
        if let Some(bearer) = bearer {
            request = request.header("authorization", bearer);
        }
        let mut stream = request.send().expect("no trap");
        assert!(matches!(stream.outcome(), Outcome::Continue(_)), "{:?}", stream.outcome());
        stream.response([(":status", "200")]).send().expect("no trap");
        stream.finish().expect("no trap");
    }
    plugin.worker(0).take_calls()
}

fn budget(calls: &[(&'static str, u64)]) -> BTreeMap<&'static str, u64> {
    ENTRIES.iter().chain(&READS).chain(calls).copied().collect()
}

#[test]
fn a_route_without_policies_costs_two_reads() {
    let (_host, plugin) = gateway("always");
    assert_eq!(cost_of(&plugin, "none", None), budget(&[]));
}

#[test]
fn a_token_seen_before_costs_the_time_and_the_headers_that_change() {
    let (_host, plugin) = gateway("always");
    let expected = budget(&[
        ("proxy_get_current_time_nanoseconds", 1),
        // The token goes; who is calling, and how that was proved, come.
        ("proxy_remove_header_map_value", 1),
        ("proxy_add_header_map_value", 2),
    ]);
    assert_eq!(cost_of(&plugin, "auth=tokens", Some(BEARER)), expected);
    // What the route requires costs no call.
    assert_eq!(cost_of(&plugin, "auth=tokens/r", Some(BEARER)), expected);
}

#[test]
fn a_limit_adds_no_host_call_but_for_the_headers_that_tell_of_it() {
    let with_auth = [
        ("proxy_get_current_time_nanoseconds", 1),
        ("proxy_remove_header_map_value", 1),
        ("proxy_add_header_map_value", 2),
    ];
    for (headers, told) in [("limited", 0), ("always", 5)] {
        let (_host, plugin) = gateway(headers);
        let mut expected = budget(&with_auth);
        if told > 0 {
            expected.insert("proxy_replace_header_map_value", told);
        }
        assert_eq!(cost_of(&plugin, "auth=tokens,rate_limit=high", Some(BEARER)), expected, "{headers}");
    }
}
