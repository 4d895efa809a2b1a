//! Runtime values: an edit changes what Envoy says of its runtime, and what it does.

use tollgate_tests::{gateway::Gateway, http_client::Client, ports::Ports};

use crate::yaml::{self, Edge};

#[test]
fn an_edit_changes_envoys_runtime_and_what_it_does() {
    let edge = Edge::with_routes([&yaml::prefix("/", "a")]);
    let text = |ports: &Ports, runtime: &str| {
        let group = format!("edge: {{ listeners: [public], runtime: {runtime} }}");
        edge.text(ports).replace("edge: { listeners: [public] }", &group)
    };
    let gateway = Gateway::edge_only("runtime", |ports| text(ports, "{}")).unwrap();
    let admin = Client::new(gateway.ports().edge_admin);
    let entry = |key: &str| -> serde_json::Value {
        let runtime = admin.get("/runtime").send().unwrap().json().unwrap();
        runtime["entries"][key]["final_value"].clone()
    };
    gateway.wait_for_status("/", 200).unwrap();

    // No request may be under way to `a`.
    const KEY: &str = "circuit_breakers.a.default.max_requests";
    let runtime = format!("{{ {KEY}: 0, a.text: word, a.percent: {{ numerator: 5 }} }}");
    gateway.edit(|_| text(gateway.ports(), &runtime)).unwrap();
    gateway.wait_for_status("/", 503).unwrap();
    assert_eq!(entry(KEY), "0");
    assert_eq!(entry("a.text"), "word");
    assert!(entry("a.percent").as_str().unwrap().contains("numerator"));

    gateway.edit(|_| text(gateway.ports(), "{}")).unwrap();
    gateway.wait_for_status("/", 200).unwrap();
    assert!(entry(KEY).is_null());
}
