//! What limits count apart at the edge: addresses behind trusted hops, claims, paths; and limits by plan, also shared.

use tollgate_tests::{
    gateway::{Gateway, Shared},
    http_client::Reply,
};

use crate::yaml::{Edge, api_key};

static GATEWAY: Shared = Shared::new(|| {
    let route = |path: &str, policies: &str| {
        format!("{{ match: {{ path: {{ prefix: {path} }} }}, to: a, policies: {{ {policies} }} }}")
    };
    let key =
        |name: &str, claims: &str| api_key(name, name).replace(" }", &format!(", claims: {{ {claims} }} }}"));
    let keys = [
        key("carol", "plan: gold, org: { id: 7 }"),
        key("dave", "plan: none-such, org: { id: 7 }"),
        key("erin", "plan: gold"),
    ];
    let plans = "plans: { by: { claim: plan }, limits: { gold: { limit: 4/h, burst: 3 } } }";
    let yaml = Edge {
        routes: vec![
            route("/address", "rate_limit: per-address"),
            route("/orders", "rate_limit: per-order"),
            route("/org", "auth: keys, rate_limit: per-org"),
            route("/local", "auth: keys, rate_limit: local"),
            route("/shared", "auth: keys, rate_limit: shared"),
        ],
        auth: vec![format!("keys: {{ any_of: [{{ api_key: {{ keys: [{}] }} }}] }}", keys.join(", "))],
        rate_limit: vec![
            "per-address: { limit: 1/h }".to_owned(),
            "per-order: { key: [{ path: \"/orders/{id}\" }, method], limit: 1/h }".to_owned(),
            "per-org: { key: [{ claim: org.id }], limit: 1/h }".to_owned(),
            format!("local: {{ key: [consumer], limit: 2/h, {plans} }}"),
            format!("shared: {{ key: [consumer], limit: 2/h, scope: global, {plans} }}"),
        ],
        ..Edge::default()
    };
    let behind_one =
        |text: String| text.replacen("    virtual_hosts:", "    trusted_hops: 1\n    virtual_hosts:", 1);
    // Of a bucket of two, another worker may hold the one that is left.
    Gateway::single_worker("limit-keys", |ports| behind_one(yaml.text(ports)))
});

fn get(path: &str, header: &str, value: &str) -> Reply {
    GATEWAY.get().edge().get(path).header(header, value).send().unwrap()
}

#[test]
fn the_client_address_is_that_behind_the_trusted_hops() {
    let from = |forwarded: &str| get("/address", "x-forwarded-for", forwarded).status;
    assert_eq!(from("198.51.100.7"), 200);
    assert_eq!(from("198.51.100.8"), 200);
    assert_eq!(from("198.51.100.7"), 429);
    // What stands before the address that the trusted proxy added is the client's own word.
    assert_eq!(from("203.0.113.1, 198.51.100.7"), 429);
    assert_eq!(from("198.51.100.7, 203.0.113.1"), 200);
}

#[test]
fn each_order_of_a_path_template_is_counted_apart_however_it_is_written() {
    let of = |path: &str| get(path, "x-any", "").status;
    assert_eq!([of("/orders/7"), of("/orders/8"), of("/orders/7")], [200, 200, 429]);
    for path in ["/orders/7?x=1", "/orders/%37", "//orders/7", "/orders/./7", "/orders/9/../7"] {
        assert_eq!(of(path), 429, "{path}");
    }
    assert_eq!([of("/orders/7/items"), of("/orders/8/items")], [200, 429], "not like the template");
    let posted = GATEWAY.get().edge().post("/orders/7").send().unwrap().status;
    assert_eq!(posted, 200, "the method is part of the key, too");
}

#[test]
fn a_claim_is_counted_whoever_has_it() {
    let of = |key: &str| get("/org", "x-api-key", key).status;
    assert_eq!([of("carol"), of("dave"), of("erin"), of("erin")], [200, 429, 200, 429]);
}

#[test]
fn a_plan_has_its_own_limit_in_one_envoy_and_in_the_quota_service() {
    for (path, policy) in [("/local", "local"), ("/shared", "shared")] {
        let told = |reply: &Reply| reply.header("ratelimit-policy").map(str::to_owned);
        let of = |key: &str| get(path, "x-api-key", key);
        let carol: Vec<Reply> = (0..4).map(|_| of("carol")).collect();
        let statuses: Vec<u16> = carol.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [200, 200, 200, 429], "{path}");
        for reply in &carol {
            assert_eq!(told(reply), Some(format!("\"{policy}:gold\";q=4;w=3600")));
        }
        let dave: Vec<Reply> = (0..3).map(|_| of("dave")).collect();
        assert_eq!(dave.iter().map(|reply| reply.status).collect::<Vec<_>>(), [200, 200, 429], "{path}");
        assert_eq!(told(&dave[0]), Some(format!("\"{policy}\";q=2;w=3600")));
        assert_eq!(of("erin").status, 200, "{path}: of the same plan, but another consumer");
    }
    let metrics = GATEWAY.get().xds().get("/metrics").send().unwrap().text();
    assert!(
        metrics.contains("tollgate_quota_requests_total{result=\"ok\"}"),
        "the service was asked: {metrics}"
    );
}
