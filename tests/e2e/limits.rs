//! Rate limits at the edge: how many pass, and what the others are told.

use std::time::Duration;

use tollgate_tests::{
    gateway::{Gateway, Shared},
    http_client::Reply,
    load::Load,
    wait::wait_until,
};

use crate::yaml::Edge;

/// Limits that do not refill while a test looks, and one that does.
static GATEWAY: Shared = Shared::new(|| {
    let route = |path: &str, policy: &str| {
        format!("{{ match: {{ path: {{ prefix: {path} }} }}, to: a, policies: {{ rate_limit: {policy} }} }}")
    };
    let yaml = Edge {
        routes: vec![
            route("/five", "five"),
            route("/tenant", "per-tenant"),
            route("/refill", "refilling"),
            route("/exact", "exact"),
            "{ match: { path: { prefix: /free } }, to: a }".to_owned(),
        ],
        rate_limit: vec![
            "five: { key: [route], limit: 1/h, burst: 5 }".to_owned(),
            "per-tenant: { key: [{ header: x-tenant }], limit: 1/h, burst: 2 }".to_owned(),
            "refilling: { key: [route], limit: 1/s, burst: 1 }".to_owned(),
            "exact: { key: [route], limit: 1/h, burst: 50 }".to_owned(),
        ],
        ..Edge::default()
    };
    Gateway::edge_only("limits", |ports| yaml.text(ports))
});

fn get(path: &str) -> Reply {
    GATEWAY.get().edge().get(path).send().unwrap()
}

fn seconds(reply: &Reply, header: &str) -> u64 {
    let value = reply.header(header).unwrap_or_else(|| panic!("no {header} in {:?}", reply.headers));
    value.parse().unwrap_or_else(|_| panic!("{header}: {value}"))
}

#[test]
fn over_the_limit_is_429_and_says_when_to_come_again() {
    let answers: Vec<Reply> = (0..8).map(|_| get("/five")).collect();
    let statuses: Vec<u16> = answers.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    let refused = &answers[5];
    assert!(seconds(refused, "retry-after") >= 1);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert!(refused.headers.contains_key("ratelimit"), "{:?}", refused.headers);
    assert!(refused.headers.contains_key("ratelimit-policy"), "{:?}", refused.headers);
    assert!(
        answers[0].headers.contains_key("ratelimit"),
        "allowed answers tell too: {:?}",
        answers[0].headers
    );
    assert_eq!(get("/free").status, 200);
}

#[test]
fn each_key_has_its_own_bucket() {
    let call =
        |tenant: &str| GATEWAY.get().edge().get("/tenant").header("x-tenant", tenant).send().unwrap().status;
    assert_eq!([call("a"), call("a"), call("a")], [200, 200, 429]);
    assert_eq!([call("b"), call("b"), call("b")], [200, 200, 429]);
}

#[test]
fn after_retry_after_the_next_request_passes() {
    wait_until("a refusal", Duration::from_secs(5), || get("/refill").expect_status(429)).unwrap();
    let retry_after = seconds(&get("/refill"), "retry-after");
    assert!((1..=2).contains(&retry_after), "{retry_after}");
    let deadline = Duration::from_secs(retry_after + 2);
    wait_until("the bucket to refill", deadline, || get("/refill").expect_status(200)).unwrap();
}

#[test]
fn all_workers_share_one_bucket() {
    // Eight connections are spread over Envoy's two workers.
    let load = Load::on(GATEWAY.get().ports().edge).get("/exact", &[]).connections(8).rate(400.0);
    let report = load.run_for(Duration::from_millis(800)).unwrap();
    let passed = report.requests() - report.failures();
    assert_eq!(passed, 50, "{report}");
}
