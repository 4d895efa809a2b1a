//! A group of Envoys that are not all alike: one is slow, one refuses, some go first.

use std::time::Duration;

use anyhow::Context;
use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, Gateway},
    load::Load,
    random_gateway::{Configuration, PATHS, Random},
    slow_link::SlowLink,
    stack::AnotherEdge,
    wait::{holds, wait_until},
};

use crate::{
    upstreams,
    yaml::{self, Edge},
};
const EDITS: usize = 200;
const SEED: u64 = 20_261_124;

#[test]
fn no_request_fails_over_200_random_edits_with_three_envoys_one_of_them_slow_to_ack() {
    let mut configuration = Configuration::new(Random(SEED));
    let upstreams = [upstreams::a().address(), upstreams::b().address()];
    let gateway = Gateway::edge_only("random-edits", |ports| configuration.text(ports, upstreams)).unwrap();
    let ports = *gateway.ports();
    let slow = SlowLink::to(ports.xds_grpc, Duration::from_millis(40)).unwrap();
    gateway.add_edge(&AnotherEdge { id: "edge-2", labels: &[], xds_port: ports.xds_grpc }).unwrap();
    gateway.add_edge(&AnotherEdge { id: "edge-3", labels: &[], xds_port: slow.port() }).unwrap();
    let all_have = |version: Option<&str>| {
        let what = format!("version {} on three Envoys", version.unwrap_or("any"));
        gateway
            .wait_for_group(&what, |group| {
                version.is_none_or(|version| group["version"] == version)
                    && (&group["stage"], &group["arrived"], &group["proxies"])
                        == (&"settled".into(), &3.into(), &3.into())
            })
            .unwrap()
    };
    all_have(None);

    let mut load = Load::on(ports.edge).connections(24).rate(300.0);
    for path in PATHS {
        load = load.get(path, &[]);
    }
    let load = load.start();
    load.wait_for(50).unwrap();
    let mut done = Vec::new();
    for n in 1..=EDITS {
        done.push(configuration.edit());
        let text = configuration.text(&ports, upstreams);
        gateway.edit(|_| text).unwrap();
        match n % 4 {
            // Half of the edits are waited for; the others are overtaken by the next at different moments.
            0 | 2 => {
                let version = wait_until("the edit's version", EFFECT_DEADLINE, || {
                    let status = gateway.status()?;
                    let on_disk = validated_version(&gateway)?;
                    holds(status["config"]["version"] == on_disk).with_context(|| status.to_string())?;
                    Ok(on_disk)
                });
                all_have(Some(&version.unwrap()));
            }
            1 => load.wait_for(20).unwrap(),
            _ => load.wait_for(90).unwrap(),
        }
    }
    let report = load.stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.failures(), 0, "{report}\nseed {SEED}, edits {done:?}");
    assert!(report.requests() > 5_000, "{report}");
}

/// The version of what is on disk.
fn validated_version(gateway: &Gateway) -> anyhow::Result<String> {
    let mut command = std::process::Command::new(gateway.toolbox().binary("xds-server")?);
    let output = command.arg("validate").arg(gateway.yaml_path()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = said.split_once("version ").and_then(|(_, rest)| rest.split(',').next());
    version.map(str::to_owned).with_context(|| format!("validate said {said}"))
}

#[test]
fn what_envoy_refuses_is_held_and_told_at_its_line_and_the_rest_moves_on() {
    // An address for documentation (RFC 5737), which no machine has: Envoy can't bind it.
    const FOREIGN: &str = "192.0.2.1";
    let edge = Edge::with_routes([&yaml::prefix("/good", "a")]);
    let gateway = Gateway::edge_only("held", |ports| edge.text(ports)).unwrap();
    let ports = *gateway.ports();
    let is_settled = |group: &serde_json::Value| group["stage"] == "settled" && group["refused"] == 0;
    gateway.wait_for_status("/good", 200).unwrap();
    gateway.wait_for_group("the first configuration", |g| g["arrived"] == 1 && is_settled(g)).unwrap();
    let load = Load::on(ports.edge).get("/good", &[]).connections(4).rate(100.0).start();

    // A new listener that is refused, and a new route of another.
    let other = format!(
        "  other:\n    address: {FOREIGN}:{}\n    virtual_hosts: [{{ name: v, hosts: ['*'], routes: [{}] }}]\nclusters:\n",
        ports.sidecar_inbound,
        yaml::prefix("/", "b")
    );
    gateway
        .edit(|text| {
            let text = text.replace("listeners: [public]", "listeners: [public, other]");
            yaml::with_route(&text.replace("clusters:\n", &other), &yaml::prefix("/new", "b"))
        })
        .unwrap();
    gateway.wait_for_status("/new", 200).unwrap();
    let group = gateway
        .wait_for_group("the refused listener", |g| g["held"].as_array().is_some_and(|held| held.len() == 1))
        .unwrap();
    let held = &group["held"][0];
    let text = std::fs::read_to_string(gateway.yaml_path()).unwrap();
    let (line, at) = (1..).zip(text.lines()).find(|(_, line)| line.contains(FOREIGN)).unwrap();
    let column = at.find(FOREIGN).unwrap() + 1;
    let place = (&held["type"], &held["name"], &held["line"], &held["column"]);
    assert_eq!(place, (&"LDS".into(), &"other".into(), &line.into(), &column.into()), "{held}");
    assert!(held["reason"].as_str().unwrap().contains("cannot bind"), "{held}");

    // A new Envoy is not even sent it.
    gateway.add_edge(&AnotherEdge { id: "edge-2", labels: &[], xds_port: ports.xds_grpc }).unwrap();
    let group = gateway.wait_for_group("two Envoys", |g| g["arrived"] == 2 && is_settled(g)).unwrap();
    assert_eq!(group["held"].as_array().unwrap().len(), 1, "{group}");

    // A listener that served is refused: it goes on as it was, and the report says where.
    gateway
        .edit(|text| text.replace(&format!("127.0.0.1:{}", ports.edge), &format!("{FOREIGN}:{}", ports.edge)))
        .unwrap();
    gateway
        .wait_for_group("two held", |g| {
            g["held"].as_array().is_some_and(|held| held.len() == 2) && is_settled(g)
        })
        .unwrap();
    gateway.wait_for_status("/new", 200).unwrap();
    load.wait_for(50).unwrap();
    assert_eq!(load.stop().unwrap().failures(), 0);

    // What is right is taken, and nothing is held any more.
    let fixed = Edge::with_routes([&yaml::prefix("/fixed", "a")]).text(&ports);
    gateway.edit(|_| fixed).unwrap();
    gateway.wait_for_status("/fixed", 200).unwrap();
    gateway
        .wait_for_group("nothing held", |g| g["held"].as_array().is_some_and(Vec::is_empty) && is_settled(g))
        .unwrap();
}

#[test]
fn canaries_that_fail_requests_are_taken_back_and_good_ones_are_followed() {
    let canary =
        "canary: { labels: { stage: canary }, observe: 2s, max_error_percent: 10, min_requests: 20 }";
    let with = |edge: &Edge, ports: &tollgate_tests::ports::Ports| {
        edge.text(ports).replace("listeners: [public] }", &format!("listeners: [public], {canary} }}"))
    };
    let edge = |route: &str| Edge {
        routes: vec![route.to_owned()],
        clusters: vec!["nobody: { endpoints: [127.0.0.1:1] }".to_owned()],
        ..Edge::default()
    };
    let first = edge(&yaml::prefix("/", "a"));
    let arguments = ["--load-report-interval", "200ms"];
    let gateway = Gateway::edge_only_with("canary", &arguments, |ports| with(&first, ports)).unwrap();
    let ports = *gateway.ports();
    let labels = [("stage", "canary")];
    gateway.add_edge(&AnotherEdge { id: "edge-2", labels: &labels, xds_port: ports.xds_grpc }).unwrap();
    let group =
        gateway.wait_for_group("two Envoys", |g| g["arrived"] == 2 && g["stage"] == "settled").unwrap();
    // The two share the port; so many connections reach both.
    let load = Load::on(ports.edge).get("/", &[]).connections(32).rate(200.0).start();
    load.wait_for(50).unwrap();

    let bad = with(&edge(&yaml::prefix("/", "nobody")), &ports);
    gateway.edit(|_| bad).unwrap();
    let after = gateway
        .wait_for_group("the roll-back", |g| {
            g["last_trial"]["outcome"] == "rolled back" && g["canary"].is_null()
        })
        .unwrap();
    let reason = after["last_trial"]["reason"].as_str().unwrap();
    assert!(reason.contains("requests failed, more than 10 %"), "{reason}");
    assert_eq!(after["version"], group["version"], "the others never went there");
    let report = load.stop().unwrap();
    assert!(
        report.failures() > 0 && report.failures() < report.requests() * 3 / 4,
        "only canaries: {report}"
    );
    let calm = Load::on(ports.edge).get("/", &[]).connections(32).rate(200.0).start();
    calm.wait_for(200).unwrap();

    let good = with(&edge("{ match: { path: { prefix: / } }, to: b, timeout: 7s }"), &ports);
    gateway.edit(|_| good).unwrap();
    gateway.wait_for_group("the trial", |g| g["canary"]["state"] == "watching").unwrap();
    let after = gateway
        .wait_for_group("the promotion", |g| {
            g["last_trial"]["outcome"] == "promoted" && g["canary"].is_null()
        })
        .unwrap();
    assert_ne!(after["version"], group["version"]);
    wait_until("both on the new upstream", EFFECT_DEADLINE, || {
        let answered = (0..20).map(|_| gateway.edge().get("/").send()).collect::<anyhow::Result<Vec<_>>>()?;
        let all = answered.iter().all(|reply| upstreams::seen(reply, "upstream") == "b");
        holds(all)
    })
    .unwrap();
    assert_eq!(calm.stop().unwrap().failures(), 0);
}
