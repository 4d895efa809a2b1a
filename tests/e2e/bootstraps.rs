//! The two bootstraps that operators copy: stock Envoy takes them unchanged, and connects.

use std::fs;

use tollgate_tests::{
    envoy,
    gateway::{Gateway, Shared},
    ports::{self, Ports},
    process::Process,
    render,
    stack::{Proxy, read},
    toolbox::Toolbox,
    wait::{holds, wait_until},
    work_dir,
};

use crate::{
    upstreams,
    yaml::{self, Edge},
};

static GATEWAY: Shared = Shared::new(|| Gateway::full("bootstraps", |text, _| text));

#[test]
fn envoy_accepts_the_bootstraps_unchanged() {
    let toolbox = Toolbox::find().unwrap();
    for name in ["edge.yaml", "sidecar.yaml"] {
        let output = envoy::validate(&toolbox, &toolbox.envoy_config(name)).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert!(!said.contains("deprecated"), "{name}: {said}");
    }
}

#[test]
fn both_proxies_connect_and_take_all_that_they_are_sent() {
    let gateway = GATEWAY.get();
    for proxy in [Proxy::Edge, Proxy::Sidecar] {
        gateway.wait_until_connected(proxy).unwrap();
    }
    let status = gateway.status().unwrap();
    assert!(status["config"]["version"].is_string(), "{status}");
    assert!(status["config"]["error"].is_null(), "{status}");
}

#[test]
fn each_proxy_gets_its_own_listeners_only() {
    let gateway = GATEWAY.get();
    let listeners = |admin: u16| {
        wait_until("the listeners", tollgate_tests::gateway::EFFECT_DEADLINE, || {
            let text = tollgate_tests::http_client::Client::new(admin).get("/listeners").send()?.text();
            holds(!text.is_empty())?;
            Ok(text)
        })
        .unwrap()
    };
    let ports = gateway.ports();
    let (edge, sidecar) = (listeners(ports.edge_admin), listeners(ports.sidecar_admin));
    let has = |text: &str, port: u16| text.contains(&format!("127.0.0.1:{port}"));
    assert!(has(&edge, ports.edge) && !has(&edge, ports.sidecar_inbound), "{edge}");
    assert!(has(&sidecar, ports.sidecar_inbound) && has(&sidecar, ports.sidecar_outbound), "{sidecar}");
    assert!(!has(&sidecar, ports.edge), "{sidecar}");
}

#[test]
fn no_update_was_rejected_by_envoy() {
    let gateway = GATEWAY.get();
    gateway.wait_for_status("/healthz", 200).unwrap();
    for admin in [gateway.ports().edge_admin, gateway.ports().sidecar_admin] {
        for stat in ["cluster_manager.cds.update_rejected", "listener_manager.lds.update_rejected"] {
            assert_eq!(envoy::stat(admin, stat).unwrap(), Some(0), "{stat} of {admin}");
        }
    }
}

#[test]
fn an_envoy_that_asks_for_the_state_of_the_world_follows_edits_too() {
    let first = Edge::with_routes([&yaml::prefix("/first", "a")]);
    let text = |edge: &Edge, ports: &Ports| {
        edge.text(ports).replace(
            "edge: { listeners: [public] }",
            "edge: { listeners: [] }, sotw: { listeners: [public] }",
        )
    };
    let gateway = Gateway::edge_only("sotw", |ports| text(&first, ports)).unwrap();
    let ports = Ports { edge_admin: ports::free().unwrap(), ..*gateway.ports() };

    let original = read(&gateway.toolbox().envoy_config("edge.yaml")).unwrap();
    let asking = original.replace("DELTA_GRPC", "GRPC").replace("cluster: edge", "cluster: sotw");
    assert_ne!(asking, original);
    let folder = work_dir::new("sotw-envoy").unwrap();
    let bootstrap = folder.join("sotw.yaml");
    fs::write(&bootstrap, render::bootstrap(&asking, &ports).unwrap()).unwrap();
    let command = envoy::serve(gateway.toolbox(), &bootstrap, 1).unwrap();
    let _envoy = Process::start("Envoy (SotW)", command, folder.join("envoy.log")).unwrap();
    gateway.wait_for_status("/first", 200).unwrap();

    // A cluster comes and goes with its route.
    let mut second = first.clone();
    second.clusters = vec![format!("c: {{ endpoints: [\"{}\"] }}", upstreams::b().address())];
    second.routes.push(yaml::prefix("/second", "c"));
    gateway.edit(|_| text(&second, &ports)).unwrap();
    gateway.wait_for_status("/second", 200).unwrap();
    gateway.edit(|_| text(&first, &ports)).unwrap();
    gateway.wait_for_status("/second", 404).unwrap();

    let status = gateway.status().unwrap();
    let proxies = status["proxies"].as_array().unwrap();
    assert!(proxies.iter().any(|proxy| proxy["flavour"] == "sotw" && proxy["group"] == "sotw"), "{status}");
}
