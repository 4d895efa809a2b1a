//! What the filters count, as Prometheus reads it from a real Envoy with the bootstrap that operators copy.

use std::time::Duration;

use tollgate_tests::{
    gateway::Gateway,
    http_client::Client,
    wait::{holds, wait_until},
};

use crate::yaml::{Edge, Filters, api_key};

#[test]
fn decisions_are_told_by_policy_and_refusals_by_route() {
    told_by_policy(Filters::Wasm);
}

#[test]
fn decisions_are_told_by_policy_and_refusals_by_route_natively() {
    told_by_policy(Filters::Native);
}

fn told_by_policy(filters: Filters) {
    let route = |name: &str, path: &str, policies: &str| {
        format!("{{ {name} match: {{ path: {{ prefix: {path} }} }}, to: a, policies: {{ {policies} }} }}")
    };
    let yaml = Edge {
        routes: vec![
            route("", "/few", "auth: keys.v1, rate_limit: few.v1"),
            route("name: shadow.route,", "/shadow", "rate_limit: shadow"),
            route("", "/away", "rate_limit: away"),
        ],
        auth: vec![format!(
            "keys.v1: {{ any_of: [{{ api_key: {{ keys: [{}] }} }}] }}",
            api_key("k", "alice")
        )],
        rate_limit: vec![
            "few.v1: { key: [], limit: 1/h, burst: 2 }".to_owned(),
            "shadow: { key: [], limit: 1/h, shadow: true }".to_owned(),
            "away: { key: [], limit: 1/h, scope: global }".to_owned(),
        ],
        filters,
        ..Edge::default()
    };
    // Nobody listens where the tokens of shared limits should come from.
    let nowhere = ["--quota-advertise", "127.0.0.1:1"];
    let gateway =
        Gateway::edge_only_with(&filters.name("counters"), &nowhere, |ports| yaml.text(ports)).unwrap();
    let get =
        |path: &str, key: &str| gateway.edge().get(path).header("x-api-key", key).send().unwrap().status;
    assert_eq!([(); 5].map(|()| get("/few", "k")), [200, 200, 429, 429, 429]);
    assert_eq!(get("/few", "wrong"), 401);
    assert_eq!([get("/shadow", ""), get("/shadow", "")], [200, 200]);
    assert_eq!(get("/away", ""), 503);
    let expected = [
        r#"tollgate_auth_policy_allowed{policy="keys.v1"} 5"#,
        r#"tollgate_auth_policy_denied{policy="keys.v1"} 1"#,
        r#"tollgate_rate_limit_policy_allowed{policy="few.v1"} 2"#,
        r#"tollgate_rate_limit_policy_limited{policy="few.v1"} 3"#,
        r#"tollgate_rate_limit_route_limited{policy="few.v1",route="test//few*"} 3"#,
        r#"tollgate_rate_limit_policy_allowed{policy="shadow"} 2"#,
        r#"tollgate_rate_limit_policy_shadowed{policy="shadow"} 1"#,
        r#"tollgate_rate_limit_policy_unavailable{policy="away"} 1"#,
        // Over all policies.
        "tollgate_rate_limit_limited{} 3",
        "tollgate_auth_allowed{} 5",
    ];
    wait_until("the counters", Duration::from_secs(10), || {
        let text = Client::new(gateway.ports().edge_admin).get("/stats/prometheus").send()?.text();
        let missing: Vec<&str> = expected
            .into_iter()
            .filter(|series| !text.lines().any(|line| line == filters.told(series)))
            .collect();
        let ours: Vec<&str> = text.lines().filter(|line| line.starts_with("tollgate_")).collect();
        holds(missing.is_empty()).map_err(|error| error.context(format!("missing {missing:#?} in {ours:#?}")))
    })
    .unwrap();
}
