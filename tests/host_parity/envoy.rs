//! The same case in real Envoy: one listener and one VM for each, and what they log as the transcript.

use std::{fs, net::TcpListener, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use tollgate_tests::{
    envoy, http_client::Client, ports, process::Process, toolbox::Toolbox, upstream::Upstream, wait, work_dir,
};

use crate::{Transcript, cases::Case, differences::normal, host};

const READY: Duration = Duration::from_secs(120);
/// How long a line may take that the host has.
const PATIENCE: Duration = Duration::from_secs(4);

pub struct RunningEnvoy {
    process: Process,
    ports: Vec<(&'static str, u16)>,
    /// Servers behind it, for as long as it runs.
    _servers: (Upstream, Upstream, Upstream, TcpListener),
}

impl RunningEnvoy {
    pub fn start(cases: &[Case]) -> Result<Self> {
        let toolbox = Toolbox::find()?;
        let folder = work_dir::new("host-parity")?;
        let upstream = Upstream::serve(|_| async { Ok(answer("x-up", "world")) })?;
        let callee = Upstream::serve(|_| async { Ok(answer("x-a", "fine")) })?;
        let late = Upstream::serve(|_| async { std::future::pending().await })?;
        // Connections are made by the kernel, and nobody takes them.
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let admin = ports::free()?;
        let dead = ports::free()?;
        let ports = cases.iter().map(|case| Ok((case.name, ports::free()?))).collect::<Result<Vec<_>>>()?;
        let listeners = cases.iter().zip(&ports).enumerate();
        let bootstrap = json!({
            "node": { "id": "parity", "cluster": "parity" },
            "admin": { "address": address(admin) },
            "static_resources": {
                "listeners": listeners
                    .map(|(number, (case, (_, port)))| listener(number, case, *port, &toolbox))
                    .collect::<Vec<Value>>(),
                "clusters": [
                    cluster("upstream", Some(upstream.address().port()), false),
                    cluster("up", Some(callee.address().port()), false),
                    cluster("late", Some(late.address().port()), false),
                    cluster("dead", Some(dead), false),
                    cluster("empty", None, false),
                    cluster("grpc-dead", Some(dead), true),
                    cluster("silent", Some(silent.local_addr()?.port()), true),
                ],
            },
        });
        let path = folder.join("bootstrap.json");
        fs::write(&path, bootstrap.to_string())?;
        let mut command = envoy::serve(&toolbox, &path, 1)?;
        command.args(["--component-log-level", "wasm:debug"]);
        let process = Process::start("Envoy", command, folder.join("envoy.log"))?;
        process.wait_until("Envoy to serve the cases", READY, || envoy::ready(admin))?;
        Ok(Self { process, ports, _servers: (upstream, callee, late, silent) })
    }

    pub fn run(&self, case: &Case) -> Result<Transcript> {
        let number = self.ports.iter().position(|(name, _)| *name == case.name).context("no such case")?;
        let client = exchange(case, self.ports[number].1)?;
        let expected = host::run(case).len();
        let look = || {
            let lines = self.lines(number);
            let transcript = normal(lines.clone(), client.clone(), case);
            let ended = lines.iter().any(|line| line == "event: deleted");
            if !ended || transcript.len() < expected {
                bail!("{} of {expected} lines", transcript.len());
            }
            Ok(transcript)
        };
        // What doesn't come is a difference, not an error.
        let found = wait::wait_until("the transcript", PATIENCE, look);
        Ok(found.unwrap_or_else(|_| normal(self.lines(number), client, case)))
    }

    /// What the VM of a case logged.
    fn lines(&self, number: usize) -> Vec<String> {
        let mark = format!(" case-{number}: ");
        let log = self.process.log().text();
        let lines = log.lines().filter(|line| line.contains("wasm log"));
        lines.filter_map(|line| Some(line.split_once(&mark)?.1.to_owned())).collect()
    }

    pub fn report(&self) -> String {
        self.process.report()
    }
}

fn exchange(case: &Case, port: u16) -> Result<String> {
    let client = Client::new(port);
    let mut request = if case.body.is_some() { client.post("/p?q=1") } else { client.get("/p?q=1") };
    request = request.header("host", "test.example");
    for (name, value) in case.headers {
        request = request.header(name, value);
    }
    for line in case.lines {
        request = match line.split_once(": ") {
            Some((when, line)) => request.header(&format!("x-do-{when}"), line),
            None => request.header("x-do", line),
        };
    }
    if let Some(body) = case.body {
        request = request.json(&json!(body));
    }
    Ok(match request.send() {
        Ok(reply) => format!("{} {}", reply.status, reply.text()),
        Err(_) => "reset".to_owned(),
    })
}

fn answer(header: &str, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    let name = http::HeaderName::from_bytes(header.as_bytes()).expect("a name");
    response.headers_mut().insert(name, http::HeaderValue::from_static("1"));
    response
}

fn listener(number: usize, case: &Case, port: u16, toolbox: &Toolbox) -> Value {
    let wasm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config": {
            "name": "guest",
            "root_id": "root",
            "vm_config": {
                "vm_id": format!("case-{number}"),
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": toolbox.wasm.join("host_guest.wasm") } },
            },
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": case.configuration,
            },
        },
    });
    let router = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "suppress_envoy_headers": true,
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": format!("case-{number}"),
        "generate_request_id": false,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
            "name": "the-route",
            "match": { "prefix": "/" },
            "route": { "cluster": "upstream" },
            "metadata": { "filter_metadata": { "tollgate": { "policies": "auth=a" } } },
        }] }] },
        "http_filters": [{ "name": "wasm", "typed_config": wasm }, { "name": "router", "typed_config": router }],
    });
    json!({
        "name": format!("case-{number}"),
        "address": address(port),
        "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
    })
}

fn cluster(name: &str, port: Option<u16>, http2: bool) -> Value {
    let endpoints = port.map(|port| json!({ "endpoint": { "address": address(port) } }));
    let mut cluster = json!({
        "name": name,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": endpoints.into_iter().collect::<Vec<Value>>() }],
        },
    });
    if http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        });
    }
    cluster
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
