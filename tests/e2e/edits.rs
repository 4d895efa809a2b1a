//! Edits and crashes under load: whatever happens to the control plane, no request notices.

use std::{fs, time::Duration};

use tollgate_tests::{gateway::Gateway, load::Load, stack::Proxy, upstream::NAME_HEADER};

use crate::{
    upstreams,
    yaml::{self, Edge},
};

const EDITS: usize = 100;

/// Edit `n` of the sequence: the load's route moves to a cluster with a new name every time, the old cluster goes,
/// other routes and clusters come, change and go.
fn edited(n: usize) -> Edge {
    let [a, b] = [upstreams::a(), upstreams::b()].map(tollgate_tests::upstream::Upstream::address);
    let mut edge = Edge::default();
    edge.routes
        .extend((n - n % 4..=n).map(|n| format!("{{ match: {{ path: {{ exact: /edit-{n} }} }}, to: b }}")));
    edge.routes.push(yaml::prefix("/steady", &format!("renamed-{n}")));
    edge.routes.push(format!(
        "{{ match: {{ path: {{ prefix: /split }} }}, to: [{{ cluster: renamed-{n}, weight: {} }}, {{ cluster: b, weight: 50 }}] }}",
        1 + n % 99
    ));
    edge.clusters.push(format!("renamed-{n}: {{ endpoints: [\"{a}\"] }}"));
    // One cluster keeps its name and changes its endpoints.
    edge.clusters.push(format!("moving: {{ endpoints: [\"{}\"] }}", if n.is_multiple_of(2) { a } else { b }));
    edge.routes.push(yaml::prefix("/moving", "moving"));
    edge
}

#[test]
fn no_request_of_a_steady_load_fails_during_100_edits() {
    let gateway = Gateway::edge_only("edits", |ports| edited(0).text(ports)).unwrap();
    let ports = *gateway.ports();
    let load = Load::on(ports.edge).get("/steady", &[]).get("/split", &[]).get("/moving", &[]);
    let load = load.connections(8).rate(300.0).start();
    load.wait_for(50).unwrap();
    for n in 1..=EDITS {
        gateway.edit(|_| edited(n).text(&ports)).unwrap();
        // Most edits are waited for; every fifth is overtaken by the next.
        if !n.is_multiple_of(5) || n == EDITS {
            gateway.wait_for_status(&format!("/edit-{n}"), 200).unwrap();
        }
    }
    load.wait_for(100).unwrap();
    let report = load.stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.failures(), 0, "{report}");
    assert!(report.requests() > 500, "{report}");
    gateway.wait_for_status("/edit-0", 404).unwrap();
}

#[test]
fn no_request_fails_while_policies_change() {
    // SHA-256 of `first`, which the load calls with; other keys come and go around it, and so do limits.
    const FIRST: &str = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
    let edited = |n: usize| {
        let others =
            (0..n % 5).map(|key| format!(", {{ sha256: {:064x}, consumer: other-{key} }}", n * 10 + key));
        let keys = format!("{{ sha256: {FIRST}, consumer: ada }}{}", others.collect::<String>());
        let marker = format!("{{ match: {{ path: {{ exact: /edit-{n} }} }}, to: b }}");
        Edge {
            routes: vec![
                marker,
                "{ match: { path: { prefix: /steady } }, to: a, policies: { auth: keys, rate_limit: high } }"
                    .to_owned(),
            ],
            auth: vec![format!("keys: {{ any_of: [{{ api_key: {{ keys: [{keys}] }} }}] }}")],
            rate_limit: vec![format!("high: {{ key: [consumer], limit: {}/s }}", 1_000_000 + n)],
            ..Edge::default()
        }
    };
    let gateway = Gateway::edge_only("policies", |ports| edited(0).text(ports)).unwrap();
    let ports = *gateway.ports();
    let load =
        Load::on(ports.edge).get("/steady", &[("x-api-key", "first")]).connections(8).rate(300.0).start();
    load.wait_for(50).unwrap();
    for n in 1..=20 {
        gateway.edit(|_| edited(n).text(&ports)).unwrap();
        gateway.wait_for_status(&format!("/edit-{n}"), 200).unwrap();
    }
    load.wait_for(100).unwrap();
    let report = load.stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.failures(), 0, "{report}");
}

#[test]
fn xds_server_killed_and_restarted_under_load_fails_no_request() {
    let yaml = Edge::with_routes([&yaml::prefix("/steady", "a")]);
    let gateway = Gateway::edge_only("crash", |ports| yaml.text(ports)).unwrap();
    let load = Load::on(gateway.ports().edge).get("/steady", &[]).connections(8).rate(300.0).start();
    for round in 0..3 {
        load.wait_for(100).unwrap();
        gateway.kill_xds_server().unwrap();
        load.wait_for(200).unwrap();
        // One round comes back with another configuration than it left with.
        let route = yaml::prefix(&format!("/round-{round}"), "b");
        gateway.edit(|text| yaml::with_route(&text, &route)).unwrap();
        gateway.restart_xds_server().unwrap();
        gateway.wait_until_connected(Proxy::Edge).unwrap();
        gateway.wait_for_status(&format!("/round-{round}"), 200).unwrap();
    }
    load.wait_for(100).unwrap();
    let report = load.stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.failures(), 0, "{report}");
}

#[test]
fn a_bad_edit_changes_nothing_and_is_reported_where_it_stands() {
    let yaml = Edge::with_routes([&yaml::prefix("/good", "a")]);
    let gateway = Gateway::edge_only("bad-edit", |ports| yaml.text(ports)).unwrap();
    let good = fs::read_to_string(gateway.yaml_path()).unwrap();
    let version = gateway.status().unwrap()["config"]["version"].clone();
    let load = Load::on(gateway.ports().edge).get("/good", &[]).connections(2).rate(100.0).start();
    let mark = gateway.xds_log_end().unwrap();

    // `/new` would be served, if half of a bad edit were taken.
    let route = "{ match: { path: { prefix: /new } }, to: a, timout: 5s }";
    gateway.edit(|text| yaml::with_route(&text, route)).unwrap();
    let entry = gateway.wait_for_entry("configuration rejected", mark).unwrap();

    let bad = fs::read_to_string(gateway.yaml_path()).unwrap();
    let (line, text) = bad.lines().enumerate().find(|(_, line)| line.contains("timout")).unwrap();
    let column = text.find("timout").unwrap() + 1;
    assert_eq!(entry.field("line"), Some((line + 1).to_string()), "{entry:?}");
    assert_eq!(entry.field("column"), Some(column.to_string()), "{entry:?}");
    assert!(entry.field("file").unwrap().ends_with("gateway.yaml"), "{entry:?}");

    let status = gateway.status().unwrap();
    assert_eq!(status["config"]["version"], version);
    assert!(status["config"]["error"].is_object(), "{status}");
    assert_eq!(gateway.edge().get("/good").send().unwrap().header(NAME_HEADER), Some("a"));
    assert_eq!(gateway.edge().get("/new").send().unwrap().status, 404);

    // The next good edit is taken, and clears the error.
    let fixed = yaml::with_route(&good, &route.replace("timout", "timeout"));
    gateway.edit(|_| fixed).unwrap();
    gateway.wait_for_status("/new", 200).unwrap();
    assert!(gateway.status().unwrap()["config"]["error"].is_null());
    assert_eq!(load.stop().unwrap().failures(), 0);
}

#[test]
fn a_bad_edit_does_not_survive_a_restart_as_a_good_one() {
    let yaml = Edge::with_routes([&yaml::prefix("/good", "a")]);
    let gateway = Gateway::edge_only("bad-restart", |ports| yaml.text(ports)).unwrap();
    gateway.kill_xds_server().unwrap();
    gateway.edit(|text| text.replace("version: v1", "version: v9")).unwrap();
    assert!(gateway.restart_xds_server().is_err(), "a bad configuration must not start");
    // Envoy goes on with what it has.
    let report =
        Load::on(gateway.ports().edge).get("/good", &[]).run_for(Duration::from_millis(300)).unwrap();
    assert_eq!(report.failures(), 0, "{report}");
}
