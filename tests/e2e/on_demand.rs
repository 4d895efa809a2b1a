//! Virtual hosts on demand: an Envoy has those that its requests were for, and serves as if it had all.

use std::{collections::BTreeSet, time::Instant};

use anyhow::Context;
use serde_json::json;
use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, Gateway, Shared},
    http_client::{Client, Reply},
    load::Load,
    ports::Ports,
    upstream::NAME_HEADER,
    wait::{holds, wait_until},
};

use crate::upstreams;

const HOSTS: usize = 1_000;

/// `host-N.example.com` for each `N`, and what `extra` adds; `marks` is a header that every answer of host 7 has.
fn text(ports: &Ports, mark: &str, extra: &[String]) -> String {
    let host = |name: &str, hosts: &str, route: &str| {
        format!(
            "      - {{ name: {name}, hosts: [{hosts}], routes: [{{ match: {{ path: {{ prefix: / }} }}, {route} }}] }}\n"
        )
    };
    let mut text = format!(
        "version: v1\nproxies: {{ edge: {{ listeners: [public] }} }}\nlisteners:\n  public:\n    \
         address: 127.0.0.1:{}\n    on_demand: true\n    virtual_hosts:\n",
        ports.edge
    );
    for number in 0..HOSTS {
        let mark = if number == 7 { mark } else { "same" };
        let route =
            format!("to: a, headers: {{ response: {{ set: {{ x-mark: {mark}, x-host: host-{number} }} }} }}");
        text += &host(&format!("host-{number}"), &format!("host-{number}.example.com"), &route);
    }
    text += &host("wild", "'*.wild.example.com'", "to: b");
    text += &host("wilder", "'one.wild.example.com'", "to: a");
    text.extend(extra.iter().cloned());
    let (a, b) = (upstreams::a().address(), upstreams::b().address());
    text + &format!("clusters:\n  a: {{ endpoints: [\"{a}\"] }}\n  b: {{ endpoints: [\"{b}\"] }}\n")
}

fn get(gateway: &Gateway, host: &str) -> Reply {
    gateway.edge().get("/").header("host", host).send().unwrap()
}

/// The virtual hosts that Envoy has.
fn held(gateway: &Gateway) -> BTreeSet<String> {
    let admin = Client::new(gateway.ports().edge_admin);
    let dump = admin.get("/config_dump?resource=dynamic_route_configs").send().unwrap().json().unwrap();
    let configs = dump["configs"].as_array().cloned().unwrap_or_default();
    let hosts =
        configs.iter().filter_map(|config| config["route_config"]["virtual_hosts"].as_array().cloned());
    hosts.flatten().filter_map(|host| host["name"].as_str().map(str::to_owned)).collect()
}

static GATEWAY: Shared = Shared::new(|| Gateway::edge_only("on-demand", |ports| text(ports, "first", &[])));

#[test]
fn only_hosts_that_were_asked_for_are_in_the_proxy_and_edits_reach_them() {
    let gateway = Gateway::edge_only("on-demand-edit", |ports| text(ports, "first", &[])).unwrap();
    assert!(held(&gateway).is_empty(), "{:?}", held(&gateway));
    for number in [3, 7, 999] {
        let reply = get(&gateway, &format!("host-{number}.example.com"));
        assert_eq!((reply.status, reply.header("x-host")), (200, Some(&*format!("host-{number}"))));
    }
    let names = [3, 7, 999].map(|number| format!("public/host-{number}.example.com"));
    assert_eq!(held(&gateway), BTreeSet::from(names));

    gateway.edit(|_| text(gateway.ports(), "second", &[])).unwrap();
    wait_until("the edit", EFFECT_DEADLINE, || {
        let reply = get(&gateway, "host-7.example.com");
        holds(reply.header("x-mark") == Some("second")).with_context(|| format!("{reply:?}"))
    })
    .unwrap();
    assert_eq!(held(&gateway).len(), 3);

    // One goes; its place is as if it had never been.
    let gone = |text: String| text.replace("host-7.example.com", "host-7.example.net");
    gateway.edit(gone).unwrap();
    wait_until("404", EFFECT_DEADLINE, || holds(get(&gateway, "host-7.example.com").status == 404)).unwrap();
    assert_eq!(get(&gateway, "host-7.example.net").header("x-host"), Some("host-7"));
    let status = gateway.status().unwrap();
    let types = status["proxies"][0]["types"].as_object().unwrap();
    assert!(types.values().all(|of_type| of_type["nack"].is_null()), "{status:#}");
}

#[test]
fn wildcards_ports_and_case_are_as_with_all_virtual_hosts_in_the_proxy() {
    let gateway = GATEWAY.get();
    for (host, upstream) in [
        ("two.wild.example.com", "b"),
        ("ONE.wild.example.com:8080", "a"),
        ("one.wild.example.com", "a"),
        ("three.wild.example.com:1", "b"),
        ("Host-8.Example.Com:443", "a"),
    ] {
        let reply = get(&gateway, host);
        assert_eq!((reply.status, reply.header(NAME_HEADER)), (200, Some(upstream)), "{host}");
    }
}

#[test]
fn a_host_that_nobody_has_gets_404_at_once_every_time() {
    let gateway = GATEWAY.get();
    for host in
        ["unknown.example.com", "wild.example.com", "*", "*.wild.example.com", "unknown.example.com:80"]
    {
        for _ in 0..2 {
            let began = Instant::now();
            assert_eq!(get(&gateway, host).status, 404, "{host}");
            assert!(began.elapsed().as_secs() < 5, "{host} took {:?}", began.elapsed());
        }
    }
    // A host that comes into being is found, although it was asked for in vain.
    let new = "      - { name: new, hosts: [unknown.example.com], routes: [{ match: { path: { prefix: / } }, to: b }] }\n";
    gateway.edit(|_| text(gateway.ports(), "first", &[new.to_owned()])).unwrap();
    wait_until("the new host", EFFECT_DEADLINE, || holds(get(&gateway, "unknown.example.com").status == 200))
        .unwrap();
}

#[test]
fn the_first_request_of_a_host_keeps_its_body() {
    let reply = GATEWAY
        .get()
        .edge()
        .post("/")
        .header("host", "host-11.example.com")
        .json(&json!({"n": vec![0; 5_000]}));
    let reply = reply.send().unwrap().expect_status(200).unwrap();
    assert_eq!(upstreams::seen(&reply, "body_length"), 10_007, "{}", reply.text());
}

#[test]
fn no_request_fails_while_virtual_hosts_change() {
    let extra = |n: usize| {
        format!(
            "      - {{ name: load, hosts: [load.test], routes: [{{ match: {{ path: {{ prefix: / }} }}, to: a, timeout: {}s }}] }}\n",
            5 + n
        )
    };
    let gateway = Gateway::edge_only("on-demand-load", |ports| text(ports, "mark-0", &[extra(0)])).unwrap();
    let load = Load::on(gateway.ports().edge).get("/", &[]).connections(8).rate(300.0).start();
    load.wait_for(50).unwrap();
    for n in 1..=20 {
        gateway.edit(|_| text(gateway.ports(), &format!("mark-{n}"), &[extra(n)])).unwrap();
        wait_until("the edit", EFFECT_DEADLINE, || {
            holds(get(&gateway, "host-7.example.com").header("x-mark") == Some(&*format!("mark-{n}")))
        })
        .unwrap();
    }
    let report = load.stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.failures(), 0, "{report}");
}

#[test]
fn the_first_request_of_a_host_is_checked_as_every_other() {
    let key = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let host = |n: usize| {
        format!(
            "      - {{ name: closed-{n}, hosts: [closed-{n}.test], policies: {{ auth: keys }}, routes: [{{ match: {{ path: {{ prefix: / }} }}, to: a }}] }}\n"
        )
    };
    let policies = format!(
        "policies: {{ auth: {{ keys: {{ any_of: [{{ api_key: {{ keys: [{{ sha256: {key}, consumer: alice }}] }} }}] }} }} }}\n"
    );
    let yaml = |ports: &Ports| text(ports, "first", &[host(1), host(2)]) + &policies;
    let gateway = Gateway::edge_only("on-demand-auth", yaml).unwrap();
    assert_eq!(get(&gateway, "closed-1.test").status, 401);
    let request = gateway.edge().get("/").header("host", "closed-2.test").header("x-consumer-id", "mallory");
    let reply = request.header("x-api-key", "foo").send().unwrap().expect_status(200).unwrap();
    assert_eq!(upstreams::header_seen(&reply, "x-consumer-id"), ["alice"]);
}

#[test]
fn hosts_in_the_proxy_outlive_the_xds_server_and_follow_what_changed_meanwhile() {
    let gateway = Gateway::edge_only("on-demand-crash", |ports| {
        text(ports, "first", &[]).replace("host-9.example.com", "load.test")
    })
    .unwrap();
    let load = Load::on(gateway.ports().edge).get("/", &[]).connections(4).rate(200.0).start();
    load.wait_for(50).unwrap();
    for host in ["host-7.example.com:80", "host-8.example.com", "never.example.com"] {
        get(&gateway, host);
    }
    gateway.kill_xds_server().unwrap();
    load.wait_for(100).unwrap();
    assert_eq!(get(&gateway, "host-7.example.com").header("x-mark"), Some("first"));
    gateway
        .edit(|_| {
            let text = text(gateway.ports(), "second", &[]).replace("host-9.example.com", "load.test");
            text.replace("host-8.example.com", "never.example.com")
        })
        .unwrap();
    gateway.restart_xds_server().unwrap();
    wait_until("the edit", EFFECT_DEADLINE, || {
        holds(get(&gateway, "host-7.example.com").header("x-mark") == Some("second"))?;
        holds(get(&gateway, "host-8.example.com").status == 404)?;
        holds(get(&gateway, "never.example.com").status == 200)
    })
    .unwrap();
    assert_eq!(get(&gateway, "host-12.example.com").status, 200);
    let report = load.stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.failures(), 0, "{report}");
}
