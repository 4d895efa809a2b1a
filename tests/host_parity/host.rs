//! A case in the test host. The test answers callouts as the servers behind Envoy do.

use std::time::Duration;

use tollgate_tests::toolbox::Toolbox;
use tollgate_wasm_host::{ClusterState, Error, HeaderMap, Host, Module, Outcome, Plugin, Stream};

use crate::{Transcript, cases::Case, differences::normal};

/// Envoy tells the module how long the answer took.
const TIME: &str = "x-envoy-upstream-service-time";
pub fn run(case: &Case) -> Transcript {
    let module = Module::from_file(Toolbox::find().unwrap().wasm.join("host_guest.wasm")).unwrap();
    let host = Host::new();
    for name in ["up", "dead", "late", "grpc-dead", "silent"] {
        host.set_cluster(name, ClusterState::HasHosts);
    }
    host.set_cluster("empty", ClusterState::NoHosts);
    let plugin = host
        .plugin(&module)
        .name("guest")
        .root_id("root")
        .vm_id("case")
        .configuration(case.configuration)
        .property(["xds", "route_name"], "the-route")
        .property(["xds", "cluster_name"], "upstream")
        .property(["xds", "route_metadata", "filter_metadata", "tollgate", "policies"], "auth=a")
        .start()
        .unwrap();
    let client = exchange(&host, &plugin, case);
    let lines = plugin.logs().0.into_iter().map(|line| line.text);
    normal(lines.collect(), client, case)
}

fn exchange(host: &Host, plugin: &Plugin, case: &Case) -> String {
    let mut headers = HeaderMap::from([
        (":authority", "test.example"),
        (":path", "/p?q=1"),
        (":method", if case.body.is_some() { "POST" } else { "GET" }),
        (":scheme", "http"),
    ]);
    headers.extend(case.headers.iter().copied());
    for line in case.lines {
        let (when, line) =
            line.split_once(": ").map_or((String::new(), *line), |(when, line)| (format!("-{when}"), line));
        headers.add(format!("x-do{when}"), line);
    }
    let body = case.body.map(|body| serde_json::json!(body).to_string());
    if let Some(body) = &body {
        headers.add("content-type", "application/json");
        headers.add("content-length", body.len().to_string());
    }
    headers.add("x-forwarded-proto", "http");
    let mut request = plugin.worker(0).request(headers);
    if let Some(body) = body {
        request = request.body(body);
    }
    let mut stream = match request.send() {
        Ok(stream) => stream,
        // The guest fell over, which is a way to answer, too.
        Err(Error::Trap(trap)) => return client(trap.outcome.clone().unwrap()),
        Err(other) => panic!("{}: {other}", case.name),
    };
    answer_all(host, &stream);
    host.clock().advance(Duration::from_millis(100)).unwrap();
    if stream.outcome().forwarded().is_some() {
        let response = [("x-up", "1"), ("content-length", "5"), ("date", "now")];
        stream.response(response).body("world").send().unwrap();
    }
    stream.finish().unwrap();
    client(stream.response_outcome())
}

/// What the client gets.
fn client(outcome: Outcome) -> String {
    match outcome {
        Outcome::Continue(message) => told(&message.headers, &message.body),
        Outcome::LocalReply(reply) => told(&reply.headers, &reply.body),
        Outcome::Reset => "reset".to_string(),
        Outcome::Pause => "nothing".to_string(),
    }
}

fn told(headers: &HeaderMap, body: &[u8]) -> String {
    format!("{} {}", headers.text(":status").unwrap(), String::from_utf8_lossy(body))
}

fn answer_all(host: &Host, stream: &Stream) {
    for callout in stream.callouts() {
        match callout.cluster.as_str() {
            "up" => {
                let headers = [("x-a", "1"), ("content-length", "4"), ("date", "now"), (TIME, "0")];
                callout.reply(200, headers, "fine").unwrap();
            }
            "dead" => callout.fail().unwrap(),
            _ => host.clock().advance(callout.time_limit.unwrap()).unwrap(),
        }
    }
    for call in stream.grpc_callouts() {
        match call.cluster.as_str() {
            "grpc-dead" => call.fail().unwrap(),
            _ => host.clock().advance(Duration::from_secs(1)).unwrap(),
        }
    }
}
