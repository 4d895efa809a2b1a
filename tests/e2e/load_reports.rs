//! What Envoy says of the load on its clusters, as xds-server shows it.

use anyhow::{Context, Result};
use serde_json::Value;
use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, Gateway},
    wait::{holds, wait_until},
};

use crate::yaml::{self, Edge};

fn load(gateway: &Gateway, cluster: &str) -> Result<Value> {
    let status = gateway.status()?;
    let load = status["load"]["edge"].get(cluster).cloned();
    load.with_context(|| format!("no load of {cluster}: {}", status["load"]))
}

#[test]
fn requests_and_errors_are_shown_per_cluster() {
    let edge = Edge {
        routes: vec![yaml::prefix("/good", "a"), yaml::prefix("/bad", "nobody")],
        // Nothing listens there.
        clusters: vec!["nobody: { endpoints: [127.0.0.1:1] }".to_owned()],
        ..Edge::default()
    };
    let arguments = ["--load-report-interval", "300ms"];
    let gateway = Gateway::edge_only_with("load", &arguments, |ports| edge.text(ports)).unwrap();
    gateway.wait_for_status("/good", 200).unwrap();

    let send = |path: &str, status: u16, times: u64| {
        for _ in 0..times {
            assert_eq!(gateway.edge().get(path).send().unwrap().status, status, "{path}");
        }
    };
    // Envoy counts a cluster's requests from its first report on.
    let before = wait_until("the first report of both clusters", EFFECT_DEADLINE, || {
        load(&gateway, "nobody")?;
        load(&gateway, "a")?["successful"].as_u64().context("no count")
    })
    .unwrap();
    send("/good", 200, 20);
    send("/bad", 503, 5);
    wait_until("the load", EFFECT_DEADLINE, || {
        let (a, nobody) = (load(&gateway, "a")?, load(&gateway, "nobody")?);
        // The wait for the gateway sent some, too.
        let good = a["successful"].as_u64().is_some_and(|successful| successful >= before + 20);
        let bad = nobody["errors"] == 5 && nobody["successful"] == 0;
        holds(good && a["errors"] == 0 && bad).with_context(|| format!("{a} {nobody}"))
    })
    .unwrap();

    // It is of now, too: all are errors while they fail, and there are none later.
    for (failing, ratio) in [(true, Value::from(1.0)), (false, Value::Null)] {
        wait_until("the error ratio", EFFECT_DEADLINE, || {
            send("/bad", 503, failing.into());
            let nobody = load(&gateway, "nobody")?;
            holds(nobody["error_ratio"] == ratio).with_context(|| nobody.to_string())
        })
        .unwrap();
    }

    // Clusters of the bootstrap are none of the gateway's.
    assert!(load(&gateway, "xds-server").is_err());
    let metrics = gateway.xds().get("/metrics").send().unwrap().text();
    let series = r#"tollgate_upstream_requests_total{cluster="nobody",group="edge",result="error"} "#;
    let errors = metrics.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
    assert!(errors.is_some_and(|errors| errors > 5), "{metrics}");
    assert!(!metrics.contains(r#"cluster="xds-server""#), "{metrics}");
}
