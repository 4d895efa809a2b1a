//! A stock Envoy with static listeners: bare, and with Envoy's own filters for what ours do.

use anyhow::Result;
use serde_json::{Value, json};

use super::throughput::KEY;
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
    pub local_ratelimit: u16,
    pub both: u16,
}

impl Native {
    pub fn start(toolbox: &Toolbox, upstream: &Upstream) -> Result<Self> {
        let folder = work_dir::new("bench-native")?;
        let [bare, jwt_authn, local_ratelimit, both, admin] = [(); 5].map(|()| ports::free());
        let (bare, jwt_authn, local_ratelimit, both) = (bare?, jwt_authn?, local_ratelimit?, both?);
        let admin = admin?;
        let bootstrap = folder.join("native.json");
        let listeners = [
            listener("bare", bare, &[]),
            listener("jwt_authn", jwt_authn, &[jwt_filter()]),
            listener("local_ratelimit", local_ratelimit, &[limit_filter()]),
            listener("both", both, &[jwt_filter(), limit_filter()]),
        ];
        let cluster = json!({ "name": "upstream", "type": "STATIC", "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(upstream.address().port()) } }] }],
        } });
        let text = json!({
            "admin": { "address": address(admin) },
            "static_resources": { "listeners": listeners, "clusters": [cluster] },
        });
        write(&bootstrap, &text.to_string())?;
        let log = folder.join("native.log");
        let process = Process::start("native Envoy", envoy::serve(toolbox, &bootstrap, 1), log)?;
        process.wait_until("being ready", EFFECT_DEADLINE, || envoy::ready(admin))?;
        Ok(Self { process, bare, jwt_authn, local_ratelimit, both })
    }

    pub fn pid(&self) -> i32 {
        self.process.pid()
    }
}

fn listener(name: &str, port: u16, filters: &[Value]) -> Value {
    let router =
        json!({ "name": "router", "typed_config": { "@type": format!("{FILTERS}.http.router.v3.Router") } });
    let filters: Vec<&Value> = filters.iter().chain([&router]).collect();
    let manager = json!({
        "@type": format!("{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "normalize_path": true,
        "merge_slashes": true,
        "route_config": { "virtual_hosts": [{
            "name": "bench", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }],
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
    json!({ "name": "jwt_authn", "typed_config": {
        "@type": format!("{FILTERS}.http.jwt_authn.v3.JwtAuthentication"),
        "providers": { "bench": {
            "issuer": "https://bench.test", "audiences": ["api"], "local_jwks": { "inline_string": keys.to_string() },
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
        let native = Native::start(&Toolbox::find().unwrap(), &upstream).unwrap();
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
        let refused = crate::http_client::Client::new(native.both).get("/").send().unwrap();
        assert_eq!(refused.status, 401);
    }
}
