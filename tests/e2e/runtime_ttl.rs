//! Runtime values with a time to live: an Envoy keeps them while xds-server is there, and loses them with it.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::bail;
use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, Gateway},
    http_client::Client,
    ports::Ports,
    stack::{Stack, read, write},
    wait::{holds, wait_until},
};

use crate::yaml::{self, Edge};

const TTL: Duration = Duration::from_secs(2);
const KEY: &str = "circuit_breakers.a.default.max_requests";

/// With it, no request may be under way to `a`.
fn text(ports: &Ports) -> String {
    let group = format!("edge: {{ listeners: [public], runtime_ttl: 2s, runtime: {{ {KEY}: 0 }} }}");
    let edge = Edge::with_routes([&yaml::prefix("/", "a")]);
    edge.text(ports).replace("edge: { listeners: [public] }", &group)
}

/// Envoy's own bootstrap, over streams of this kind.
fn over(stack: &mut Stack, api_type: &str) -> anyhow::Result<()> {
    let folder = stack.folder.join("repository");
    fs::create_dir_all(folder.join("envoy-configs"))?;
    let bootstrap = read(&stack.toolbox.envoy_config("edge.yaml"))?;
    if !bootstrap.contains("api_type: DELTA_GRPC") {
        bail!("edge.yaml no longer says DELTA_GRPC");
    }
    stack.toolbox.repository = folder;
    let text = bootstrap.replace("api_type: DELTA_GRPC", &format!("api_type: {api_type}"));
    write(&stack.toolbox.envoy_config("edge.yaml"), &text)
}

fn value_lives_as_long_as_its_server(api_type: &str) {
    let name = format!("runtime-ttl-{api_type}").to_lowercase();
    let gateway = Gateway::edge_only_on(&name, |stack| over(stack, api_type), text).unwrap();
    let admin = Client::new(gateway.ports().edge_admin);
    let value = || {
        let runtime: serde_json::Value = admin.get("/runtime").send()?.json()?;
        anyhow::Ok(runtime["entries"][KEY]["final_value"].as_str().map(str::to_owned))
    };
    gateway.wait_for_status("/", 503).unwrap();

    // Heartbeats alone keep it, for several times as long.
    let started = Instant::now();
    wait_until("three times to live", EFFECT_DEADLINE, || {
        assert_eq!(value()?.as_deref(), Some("0"), "lost after {:?}", started.elapsed());
        holds(started.elapsed() > 3 * TTL)
    })
    .unwrap();
    let status = gateway.status().unwrap();
    let runtime = &status["proxies"][0]["types"]["type.googleapis.com/envoy.service.runtime.v3.Runtime"];
    assert!(runtime.is_object() && runtime["nack"].is_null(), "{status:#}");

    gateway.kill_xds_server().unwrap();
    gateway.wait_for_status("/", 200).unwrap();
    assert_eq!(value().unwrap(), None);
    gateway.restart_xds_server().unwrap();
    gateway.wait_for_status("/", 503).unwrap();
    assert_eq!(value().unwrap().as_deref(), Some("0"));
}

#[test]
fn a_value_lives_as_long_as_its_server_over_delta() {
    value_lives_as_long_as_its_server("DELTA_GRPC");
}

#[test]
fn a_value_lives_as_long_as_its_server_over_state_of_the_world() {
    value_lives_as_long_as_its_server("GRPC");
}
