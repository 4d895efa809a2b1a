//! A stock Envoy with static listeners: bare, and with Envoy's own filters for what ours do.

use anyhow::Result;
use serde_json::{Value, json};

use super::{throughput::KEY, tokens::Tokens};
use crate::{
    envoy, gateway::EFFECT_DEADLINE, ports, process::Process, stack::write, toolbox::Toolbox,
    upstream::Upstream, work_dir,
};

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";

/// The Envoy, and the port of each listener.
pub(super) struct Native {
    process: Process,
    pub bare: u16,
    pub jwt_authn: u16,
    /// RS256, by the key of [`Tokens`].
    pub fresh: u16,
    pub local_ratelimit: u16,
    pub both: u16,
    /// `jwt_authn` and `ratelimit`, which asks for each request.
    pub shared: u16,
}

impl Native {
    /// `quota` is the port of the rate limit service.
    pub fn start(toolbox: &Toolbox, upstream: &Upstream, quota: u16, tokens: &Tokens) -> Result<Self> {
        let folder = work_dir::new("bench-native")?;
        let [bare, jwt_authn, fresh, local_ratelimit, both, shared, admin] = [(); 7].map(|()| ports::free());
        let (bare, jwt_authn, local_ratelimit, both) = (bare?, jwt_authn?, local_ratelimit?, both?);
        let (fresh, shared, admin) = (fresh?, shared?, admin?);
        let bootstrap = folder.join("native.json");
        let listeners = [
            listener("bare", bare, &[]),
            listener("jwt_authn", jwt_authn, &[jwt_filter()]),
            listener("local_ratelimit", local_ratelimit, &[limit_filter()]),
            listener("both", both, &[jwt_filter(), limit_filter()]),
            listener("fresh", fresh, &[rs256_filter(tokens)]),
            listener("shared", shared, &[jwt_filter(), shared_limit_filter()]),
        ];
        let mut quota = cluster("quota", quota);
        quota["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
        let clusters = [cluster("upstream", upstream.address().port()), quota];
        let text = json!({
            "admin": { "address": address(admin) },
            "static_resources": { "listeners": listeners, "clusters": clusters },
        });
        write(&bootstrap, &text.to_string())?;
        let log = folder.join("native.log");
        let process = Process::start("native Envoy", envoy::serve(toolbox, &bootstrap, 1)?, log)?;
        process.wait_until("being ready", EFFECT_DEADLINE, || envoy::ready(admin))?;
        Ok(Self { process, bare, jwt_authn, fresh, local_ratelimit, both, shared })
    }

    pub fn pid(&self) -> i32 {
        self.process.pid()
    }
}

fn listener(name: &str, port: u16, filters: &[Value]) -> Value {
    let router =
        json!({ "name": "router", "typed_config": { "@type": format!("{FILTERS}.http.router.v3.Router") } });
    let filters: Vec<&Value> = filters.iter().chain([&router]).collect();
    // As ours are asked for: only the `ratelimit` filter reads it.
    let limits = json!([{ "actions": [
        { "generic_key": { "descriptor_key": "policy", "descriptor_value": "shared" } },
        { "request_headers": { "header_name": "x-consumer-id", "descriptor_key": "consumer" } },
    ] }]);
    let manager = json!({
        "@type": format!("{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "normalize_path": true,
        "merge_slashes": true,
        "route_config": { "virtual_hosts": [{
            "name": "bench", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "upstream", "rate_limits": limits } }],
        }] },
        "http_filters": filters,
    });
    json!({
        "name": name,
        "address": address(port),
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    })
}

/// The same token as ours is shown, checked by the same key; it goes no further, and its subject does.
fn jwt_filter() -> Value {
    let keys = json!({ "keys": [{ "kty": "oct", "kid": "bench", "alg": "HS256", "k": KEY }] });
    jwt_filter_of("https://bench.test", &keys)
}

/// The tokens that differ, each of which it checks.
fn rs256_filter(tokens: &Tokens) -> Value {
    let rsa = |key: &&Value| key["kid"] == "rs";
    let keys: Vec<&Value> = tokens.jwks["keys"].as_array().into_iter().flatten().filter(rsa).collect();
    jwt_filter_of("https://issuer.example", &json!({ "keys": keys }))
}

fn jwt_filter_of(issuer: &str, keys: &Value) -> Value {
    json!({ "name": "jwt_authn", "typed_config": {
        "@type": format!("{FILTERS}.http.jwt_authn.v3.JwtAuthentication"),
        "providers": { "bench": {
            "issuer": issuer, "audiences": ["api"], "local_jwks": { "inline_string": keys.to_string() },
            "claim_to_headers": [{ "header_name": "x-consumer-id", "claim_name": "sub" }],
        } },
        "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "bench" } }],
    } })
}

/// A limit that is never reached.
fn limit_filter() -> Value {
    let always = json!({ "default_value": { "numerator": 100 } });
    json!({ "name": "local_ratelimit", "typed_config": {
        "@type": format!("{FILTERS}.http.local_ratelimit.v3.LocalRateLimit"),
        "stat_prefix": "bench",
        "token_bucket": { "max_tokens": 10_000_000, "tokens_per_fill": 10_000_000, "fill_interval": "1s" },
        "filter_enabled": always,
        "filter_enforced": always,
    } })
}

/// Asks the quota service about each request.
fn shared_limit_filter() -> Value {
    json!({ "name": "ratelimit", "typed_config": {
        "@type": format!("{FILTERS}.http.ratelimit.v3.RateLimit"),
        "domain": "tollgate",
        "failure_mode_deny": true,
        "timeout": "5s",
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": { "envoy_grpc": { "cluster_name": "quota" } },
        },
    } })
}

fn cluster(name: &str, port: u16) -> Value {
    json!({ "name": name, "type": "STATIC", "load_assignment": {
        "cluster_name": name,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }],
    } })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

#[cfg(test)]
mod tests {
    use super::super::throughput::AUTHORIZATION;
    use super::*;
    use crate::load::Load;

    #[test]
    fn every_listener_serves_and_checks() {
        let upstream = Upstream::start_silent("native").unwrap();
        // Nobody is asked for the limit that Envoys share: it is denied, as the filter was told.
        let nobody = ports::free().unwrap();
        let tokens = Tokens::mint().unwrap();
        let native = Native::start(&Toolbox::find().unwrap(), &upstream, nobody, &tokens).unwrap();
        let token = [("authorization", AUTHORIZATION)];
        for (port, headers) in [
            (native.bare, &[][..]),
            (native.jwt_authn, &token),
            (native.local_ratelimit, &[]),
            (native.both, &token),
        ] {
            let running = Load::on(port).get("/", headers).connections(2).start();
            running.wait_for(100).unwrap();
            let report = running.stop().unwrap();
            assert_eq!(report.failures(), 0, "{report}\n{}", native.process.report());
        }
        for (port, authorization, status) in
            [(native.both, "", 401), (native.fresh, AUTHORIZATION, 401), (native.shared, AUTHORIZATION, 500)]
        {
            let client = crate::http_client::Client::new(port);
            let reply = client.get("/").header("authorization", authorization).send().unwrap();
            assert_eq!(reply.status, status, "{}", native.process.report());
        }
    }
}
