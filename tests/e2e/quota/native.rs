//! Envoy's own `ratelimit` filter, against the quota service.

use std::fs;

use serde_json::{Value, json};
use tollgate_tests::{
    envoy, gateway::Gateway, http_client::Client, ports, process::Process, toolbox::Toolbox, work_dir,
};

use super::DEADLINE;
use crate::{upstreams, yaml::Edge};

const TYPE: &str = "type.googleapis.com/envoy.extensions";

fn bootstrap(port: u16, admin: u16, quota: u16) -> Value {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let cluster = |name: &str, port: u16, http2: bool| {
        let mut cluster = json!({
            "name": name,
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }],
            },
        });
        if http2 {
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions"),
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            });
        }
        cluster
    };
    let limits = json!([{ "actions": [
        { "generic_key": { "descriptor_key": "policy", "descriptor_value": "shared" } },
        { "request_headers": { "header_name": "x-tenant", "descriptor_key": "tenant" } },
    ] }]);
    let manager = json!({
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "native",
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
            { "match": { "prefix": "/" }, "route": { "cluster": "upstream", "rate_limits": limits } },
        ] }] },
        "http_filters": [
            { "name": "ratelimit", "typed_config": {
                "@type": format!("{TYPE}.filters.http.ratelimit.v3.RateLimit"),
                "domain": "tollgate",
                "failure_mode_deny": true,
                "timeout": "5s",
                "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
                "rate_limit_service": {
                    "transport_api_version": "V3",
                    "grpc_service": { "envoy_grpc": { "cluster_name": "quota" } },
                },
            } },
            { "name": "router", "typed_config": { "@type": format!("{TYPE}.filters.http.router.v3.Router") } },
        ],
    });
    json!({
        "node": { "id": "native", "cluster": "native" },
        "admin": { "address": address(admin) },
        "static_resources": {
            "listeners": [{
                "name": "native",
                "address": address(port),
                "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
            }],
            "clusters": [
                cluster("upstream", upstreams::a().address().port(), false),
                cluster("quota", quota, true),
            ],
        },
    })
}

#[test]
fn envoys_own_rate_limit_filter_works_against_the_quota_service() {
    let yaml = Edge {
        rate_limit: vec!["shared: { key: [], limit: 5/h, burst: 3, scope: global }".to_owned()],
        ..Edge::with_routes([&crate::yaml::prefix("/", "a")])
    };
    let gateway = Gateway::edge_only("quota-native", |ports| yaml.text(ports)).unwrap();
    let (port, admin) = (ports::free().unwrap(), ports::free().unwrap());
    let folder = work_dir::new("native").unwrap();
    let path = folder.join("bootstrap.json");
    fs::write(&path, bootstrap(port, admin, gateway.ports().xds_quota).to_string()).unwrap();
    let command = envoy::serve(&Toolbox::find().unwrap(), &path, 2).unwrap();
    let process = Process::start("Envoy", command, folder.join("envoy.log")).unwrap();
    process.wait_until("serving", DEADLINE, || envoy::ready(admin)).unwrap();

    let call = |tenant: &str| Client::new(port).get("/").header("x-tenant", tenant).send().unwrap();
    let answers: Vec<_> = (0..5).map(|_| call("a")).collect();
    let statuses: Vec<u16> = answers.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429], "{}", process.report());
    assert_eq!(answers[0].header("x-ratelimit-remaining"), Some("2"));
    assert_eq!(answers[3].header("x-ratelimit-limit"), Some("5, 5;w=3600"));
    assert_eq!(call("b").status, 200, "another tenant has a bucket of its own");
    gateway.kill_xds_server().unwrap();
    assert_eq!(call("b").status, 500, "who can't be counted is denied, as that filter was told");
}
