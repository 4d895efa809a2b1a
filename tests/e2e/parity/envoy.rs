//! One Envoy with a listener for each case, without any xds-server: what is compared is the filter.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tollgate_filter_cases::{Case, Config, INTROSPECTION_CLUSTER, Route};
use tollgate_tests::{envoy, ports, process::Process, toolbox::Toolbox, work_dir};

use crate::{upstreams, yaml::Filters};

/// Starting compiles each module once a VM.
const READY: Duration = Duration::from_secs(120);
const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.http";

pub struct CaseEnvoy {
    process: Process,
    admin: u16,
    ports: Vec<u16>,
}

impl CaseEnvoy {
    /// Serves all `cases`; introspection goes to the loopback port `introspection`.
    pub fn start(cases: &[Case], filters: Filters, introspection: u16) -> Result<Self> {
        let toolbox = Toolbox::find()?;
        let folder = work_dir::new("parity")?;
        let (admin, upstream) = (ports::free()?, upstreams::a().address().port());
        let ports = cases.iter().map(|_| ports::free()).collect::<Result<Vec<u16>>>()?;
        let numbered = cases.iter().zip(&ports).enumerate();
        let bootstrap = json!({
            "node": { "id": "parity", "cluster": "parity" },
            "admin": { "address": address(admin) },
            "static_resources": {
                "listeners": numbered
                    .map(|(number, (case, port))| listener(number, case, *port, filters, &toolbox))
                    .collect::<Vec<Value>>(),
                "clusters": [cluster("upstream", upstream), cluster(INTROSPECTION_CLUSTER, introspection)],
            },
        });
        let path = folder.join("bootstrap.json");
        fs::write(&path, bootstrap.to_string())?;
        // One worker, as a case's requests expect each other's state.
        let process = Process::start("Envoy", envoy::serve(&toolbox, &path, 1)?, folder.join("envoy.log"))?;
        process.wait_until("Envoy to serve the cases", READY, || envoy::ready(admin))?;
        Ok(Self { process, admin, ports })
    }

    /// Each case with the port it is served on.
    pub fn listeners<'a>(&'a self, cases: &'a [Case]) -> impl Iterator<Item = (&'a Case, u16)> {
        cases.iter().zip(self.ports.iter().copied())
    }

    /// How many requests went to the upstream.
    pub fn forwarded(&self) -> Result<u64> {
        let forwarded = envoy::stat(self.admin, "cluster.upstream.upstream_rq_total")?;
        forwarded.context("Envoy does not count requests to the upstream")
    }

    /// For whoever has to find out what went wrong.
    pub fn report(&self) -> String {
        self.process.report()
    }
}

fn listener(number: usize, case: &Case, port: u16, filters: Filters, toolbox: &Toolbox) -> Value {
    let name = format!("case-{number}");
    let filter = match filters {
        Filters::Wasm => wasm(&name, case, toolbox),
        Filters::Native => native(case),
    };
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "use_remote_address": true,
        "route_config": {
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": case.routes.iter().map(route).collect::<Vec<Value>>(),
            }],
        },
        "http_filters": [
            { "name": case.config.module(), "typed_config": filter },
            { "name": "router", "typed_config": { "@type": format!("{HTTP}.router.v3.Router") } },
        ],
    });
    json!({
        "name": name,
        "address": address(port),
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    })
}

fn native(case: &Case) -> Value {
    json!({
        "@type": format!("{HTTP}.dynamic_modules.v3.DynamicModuleFilter"),
        "dynamic_module_config": { "name": "tollgate_gateway", "do_not_close": true },
        "filter_name": case.config.module(),
        "filter_config": configuration(case),
    })
}

fn wasm(name: &str, case: &Case, toolbox: &Toolbox) -> Value {
    let module = case.config.module();
    let file = toolbox.wasm.join(format!("{module}.wasm"));
    let vm_id = match &case.config {
        Config::Auth(_) => "auth".to_owned(),
        // Buckets live in the VM's shared data.
        Config::RateLimit(_) | Config::Gateway(_) => name.to_owned(),
    };
    json!({
        "@type": format!("{HTTP}.wasm.v3.Wasm"),
        "config": {
            "name": name,
            "root_id": module,
            // As xds-server has it: a trap fails the request it happened in, not the cases after it.
            "failure_policy": "FAIL_RELOAD",
            "vm_config": {
                "vm_id": vm_id,
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": file } },
            },
            "configuration": configuration(case),
        },
    })
}

fn configuration(case: &Case) -> Value {
    json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": case.config.json() })
}

fn route(route: &Route) -> Value {
    json!({
        "name": route.full_name(),
        "match": { "path": route.path },
        "route": { "cluster": "upstream" },
    })
}

fn cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(port) } }] }],
        },
    })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
