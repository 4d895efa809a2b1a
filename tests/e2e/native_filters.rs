//! `filters: native`: how an Envoy comes to it and back, and what it does where it has no library. No request passes
//! without filters for that. What native filters do is tested beside those in Wasm, test by test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use http::Method;
use tollgate_tests::{
    envoy,
    gateway::{EFFECT_DEADLINE, Gateway},
    http_client::Client,
    load::Load,
    ports::Ports,
    process::Process,
    render,
    stack::{Stack, read},
    toolbox::{NATIVE_VARIABLE, Toolbox},
    wait::{holds, wait_until},
    work_dir,
};

use crate::yaml::{self, Edge, Filters};

/// Every route asks for the key `foo`.
fn closed(ports: &Ports) -> String {
    let mut edge = Edge::with_routes(["{ match: { path: { prefix: / } }, to: a, policies: { auth: keys } }"]);
    edge.auth =
        vec![format!("keys: {{ any_of: [{{ api_key: {{ keys: [{}] }} }}] }}", yaml::api_key("foo", "alice"))];
    edge.text(ports)
}

fn native(text: &str) -> String {
    Filters::Native.of(text)
}

/// Where no library is.
fn nothing(name: &str) -> PathBuf {
    work_dir::new(&format!("{name}-library")).unwrap()
}

/// Starts an edge Envoy of this gateway without the library's bootstrap, which looks for libraries in that folder.
fn start_edge(gateway: &Gateway, name: &str, libraries: &Path) -> Process {
    let (toolbox, ports) = (gateway.toolbox().clone(), gateway.ports());
    let folder = work_dir::new(&format!("{name}-envoy")).unwrap();
    let path = folder.join("edge.yaml");
    let bootstrap = read(&toolbox.envoy_config("edge.yaml")).unwrap();
    fs::write(&path, render::bootstrap(&bootstrap, ports).unwrap()).unwrap();
    let mut command = envoy::serve(&Toolbox { native: nothing(name), ..toolbox }, &path, 1).unwrap();
    command.env(NATIVE_VARIABLE, libraries);
    let edge = Process::start("Envoy", command, folder.join("envoy.log")).unwrap();
    edge.wait_until("being ready", EFFECT_DEADLINE, || envoy::ready(ports.edge_admin)).unwrap();
    edge
}

/// Waits until the filter is held, for the reason that Envoy gives.
fn wait_until_held(gateway: &Gateway, why: &str) {
    let group = gateway
        .wait_for_group("the refused filter", |group| {
            group["held"].as_array().is_some_and(|held| held.len() == 1)
        })
        .unwrap();
    let held = &group["held"][0];
    assert_eq!((&held["type"], &held["name"]), (&"ECDS".into(), &"public".into()), "{held}");
    assert!(held["reason"].as_str().unwrap().contains(why), "{held}");
}

/// Value of a counter as Prometheus reads it; the filters hand theirs over once a second.
fn allowed(gateway: &Gateway, filters: Filters) -> u64 {
    let text = Client::new(gateway.ports().edge_admin).get("/stats/prometheus").send().unwrap().text();
    let series = filters.told(r#"tollgate_auth_policy_allowed{policy="keys"} "#);
    let mut values = text.lines().filter_map(|line| line.strip_prefix(&series));
    let value = values.next().map_or(0, |value| value.parse().unwrap());
    assert_eq!(values.next(), None, "one series, whoever counts: {text}");
    value
}

#[test]
fn filters_change_from_wasm_to_native_and_back_under_load() {
    let gateway = Gateway::edge_only("native-switch", closed).unwrap();
    let ports = *gateway.ports();
    gateway.wait_for_status("/", 401).unwrap();
    let load = Load::on(ports.edge).get("/", &[("x-api-key", "foo")]).connections(4).rate(200.0).start();
    load.wait_for(100).unwrap();
    for turn in 0..3 {
        for (filters, kind) in [(Filters::Native, "DynamicModuleFilter"), (Filters::Wasm, "wasm.v3.Wasm")] {
            gateway.edit(|_| filters.of(&closed(&ports))).unwrap();
            wait_until("the other filters", EFFECT_DEADLINE, || {
                let dump =
                    Client::new(ports.edge_admin).get("/config_dump?resource=ecds_filters").send()?.text();
                holds(dump.contains(kind))
            })
            .unwrap();
            // One of those that Envoy has from now on is counted by these filters.
            let (before, passed) = (allowed(&gateway, filters), load.completed());
            load.wait_for(100).unwrap();
            assert_eq!(gateway.edge().get("/").send().unwrap().status, 401, "turn {turn}, {filters:?}");
            wait_until("its counts", EFFECT_DEADLINE, || {
                holds(allowed(&gateway, filters) > before && load.completed() > passed)
            })
            .unwrap();
        }
    }
    let report = load.stop().unwrap();
    assert_eq!(report.failures(), 0, "{report}\n{}", gateway.report());
    let drained = "listener_manager.listener_modified";
    assert_eq!(envoy::stat(ports.edge_admin, drained).unwrap(), Some(0), "{drained}");
}

#[test]
fn an_envoy_that_has_the_library_but_not_its_bootstrap_refuses_it() {
    let name = "native-bare";
    let gateway = Gateway::xds_only(name, |ports| native(&closed(ports))).unwrap();
    let edge = start_edge(&gateway, name, &gateway.toolbox().native);
    wait_until_held(&gateway, "Failed to initialize dynamic module");
    assert_eq!(gateway.edge().get("/").header("x-api-key", "foo").send().unwrap().status, 500);
    assert!(edge.report().contains("envoy-configs/native.yaml"), "{}", edge.report());
}

/// A client that reads no HTTP status must not take a refusal for success.
#[test]
fn grpc_clients_are_told_by_their_status() {
    for filters in [Filters::Wasm, Filters::Native] {
        let yaml = |ports: &Ports| {
            let route = |path: &str, policies: &str| {
                format!("{{ match: {{ path: {{ prefix: {path} }} }}, to: a, policies: {{ {policies} }} }}")
            };
            let key = yaml::api_key("foo", "alice, claims: { scope: read }");
            let edge = Edge {
                routes: vec![
                    route("/scoped", "auth: keys, required_scopes: [write]"),
                    route("/limited", "rate_limit: one"),
                    route("/", "auth: keys"),
                ],
                auth: vec![format!("keys: {{ any_of: [{{ api_key: {{ keys: [{key}] }} }}] }}")],
                rate_limit: vec!["one: { key: [], limit: 1/h }".to_owned()],
                filters,
                ..Edge::default()
            };
            edge.text(ports)
        };
        let gateway = Gateway::edge_only(&filters.name("grpc-refusals"), yaml).unwrap();
        gateway.wait_for_status("/", 401).unwrap();
        let call = |path: &str, content_type: &str| {
            let request = gateway.edge().request(Method::POST, path).header("content-type", content_type);
            let reply = request.header("x-api-key", if path == "/" { "bar" } else { "foo" }).send().unwrap();
            (reply.status, reply.header("grpc-status").map(str::to_owned))
        };
        let told = |status: &str| (200, Some(status.to_owned()));
        assert_eq!(call("/", "application/grpc"), told("16"), "{filters:?}");
        assert_eq!(call("/scoped", "application/grpc+proto"), told("7"), "{filters:?}");
        assert_eq!(call("/limited", "application/json").0, 200, "{filters:?}");
        assert_eq!(call("/limited", "application/grpc"), told("14"), "{filters:?}");
        assert_eq!(call("/", "application/json"), (401, None), "{filters:?}");
    }
}

/// With calls under way that wait for news: xds-server holds each for many seconds.
#[test]
fn an_envoy_with_native_filters_ends_when_it_is_told_to() {
    let yaml = |ports: &Ports| {
        let mut edge = Edge::with_routes([
            "{ match: { path: { prefix: / } }, to: a, policies: { auth: keys, rate_limit: shared } }",
        ]);
        let list = "revocations: { url: \"http://127.0.0.1:1/none\" }";
        let key = yaml::api_key("foo", "alice");
        edge.auth = vec![format!(
            "keys: {{ any_of: [{{ api_key: {{ keys: [{key}], {list} }} }}], on_failure: allow }}"
        )];
        edge.rate_limit = vec!["shared: { key: [], limit: 1000/s, scope: global }".to_owned()];
        edge.filters = Filters::Native;
        edge.text(ports)
    };
    let gateway = Gateway::edge_only("native-end", yaml).unwrap();
    wait_until("requests to pass", EFFECT_DEADLINE, || {
        gateway.edge().get("/").header("x-api-key", "foo").send()?.expect_status(200)
    })
    .unwrap();
    let status = gateway.stop("edge").unwrap();
    assert!(status.success(), "{status}\n{}", gateway.report());
}

#[test]
fn an_envoy_without_the_library_refuses_it_and_keeps_its_filters() {
    let name = "native-missing";
    let without = |stack: &mut Stack| {
        stack.toolbox.native = nothing(name);
        Ok(())
    };
    let gateway = Gateway::edge_only_on(name, without, closed).unwrap();
    let ports = *gateway.ports();
    gateway.wait_for_status("/", 401).unwrap();
    let load = Load::on(ports.edge).get("/", &[("x-api-key", "foo")]).connections(4).rate(100.0).start();
    load.wait_for(20).unwrap();

    gateway.edit(|text| native(&text)).unwrap();
    wait_until_held(&gateway, "tollgate_gateway");
    gateway.wait_for_status("/", 401).unwrap();
    load.wait_for(20).unwrap();

    gateway.edit(|_| closed(&ports)).unwrap();
    gateway
        .wait_for_group("nothing held", |group| group["held"].as_array().is_some_and(Vec::is_empty))
        .unwrap();
    assert_eq!(gateway.edge().get("/").send().unwrap().status, 401);
    let report = load.stop().unwrap();
    assert_eq!(report.failures(), 0, "{report}");
    let drained = "listener_manager.listener_modified";
    assert_eq!(envoy::stat(ports.edge_admin, drained).unwrap(), Some(0), "{drained}");
}

#[test]
fn an_envoy_that_starts_without_the_library_serves_nobody_until_it_has_filters() {
    let name = "native-missing-start";
    let gateway = Gateway::xds_only(name, |ports| native(&closed(ports))).unwrap();
    let ports = *gateway.ports();
    let edge = start_edge(&gateway, name, &nothing(name));
    wait_until_held(&gateway, "tollgate_gateway");
    let call = || gateway.edge().get("/").header("x-api-key", "foo").send().unwrap().status;
    assert_eq!(call(), 500, "{}", edge.report());

    gateway.edit(|_| closed(&ports)).unwrap();
    gateway.wait_for_status("/", 401).unwrap();
    assert_eq!(call(), 200, "{}", edge.report());
}
