//! `filters: native` where an Envoy has no library: no request passes without filters for that.

use std::{fs, path::PathBuf};

use tollgate_tests::{
    envoy,
    gateway::{EFFECT_DEADLINE, Gateway},
    load::Load,
    ports::Ports,
    process::Process,
    render,
    stack::{Stack, read},
    work_dir,
};

use crate::yaml::{self, Edge};

/// Every route asks for the key `foo`.
fn closed(ports: &Ports) -> String {
    let mut edge = Edge::with_routes(["{ match: { path: { prefix: / } }, to: a, policies: { auth: keys } }"]);
    edge.auth =
        vec![format!("keys: {{ any_of: [{{ api_key: {{ keys: [{}] }} }}] }}", yaml::api_key("foo", "alice"))];
    edge.text(ports)
}

fn native(text: &str) -> String {
    text.replacen("  public:\n", "  public:\n    filters: native\n", 1)
}

/// Where no library is.
fn nothing(name: &str) -> PathBuf {
    work_dir::new(&format!("{name}-library")).unwrap()
}

/// Waits until the filter is held, for the reason that Envoy gives.
fn wait_until_held(gateway: &Gateway) {
    let group = gateway
        .wait_for_group("the refused filter", |group| {
            group["held"].as_array().is_some_and(|held| held.len() == 1)
        })
        .unwrap();
    let held = &group["held"][0];
    assert_eq!((&held["type"], &held["name"]), (&"ECDS".into(), &"public".into()), "{held}");
    assert!(held["reason"].as_str().unwrap().contains("tollgate_gateway"), "{held}");
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
    wait_until_held(&gateway);
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
    let mut toolbox = gateway.toolbox().clone();
    toolbox.native = nothing(name);
    let folder = work_dir::new(&format!("{name}-envoy")).unwrap();
    let path = folder.join("edge.yaml");
    let bootstrap = read(&toolbox.envoy_config("edge.yaml")).unwrap();
    fs::write(&path, render::bootstrap(&bootstrap, &ports).unwrap()).unwrap();
    let edge =
        Process::start("Envoy", envoy::serve(&toolbox, &path, 1).unwrap(), folder.join("envoy.log")).unwrap();
    edge.wait_until("being ready", EFFECT_DEADLINE, || envoy::ready(ports.edge_admin)).unwrap();
    wait_until_held(&gateway);
    let call = || gateway.edge().get("/").header("x-api-key", "foo").send().unwrap().status;
    assert_eq!(call(), 500, "{}", edge.report());

    gateway.edit(|_| closed(&ports)).unwrap();
    gateway.wait_for_status("/", 401).unwrap();
    assert_eq!(call(), 200, "{}", edge.report());
}
