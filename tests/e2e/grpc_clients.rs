//! Real clients other than Envoy: gRPC for Python and for Node resolve `xds:///greeter`, call it without a proxy, and
//! follow edits. What they run is in `tests/grpc-clients`; `tests/setup.sh --test` installs what that needs.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, bail};
use serde_json::json;
use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, Gateway},
    process::Process,
    stack::write,
    wait::{holds, wait_until},
    work_dir,
};

/// Which client.
#[derive(Debug, Clone, Copy)]
enum Language {
    Python,
    Node,
}

fn script(gateway: &Gateway, name: &str) -> PathBuf {
    gateway.toolbox().repository.join("tests/grpc-clients").join(name)
}

fn python(gateway: &Gateway) -> Command {
    let mut command = Command::new(gateway.toolbox().repository.join(".venv-grpc/bin/python"));
    command.arg("-u");
    without_proxy(&mut command);
    command
}

/// gRPC would ask a proxy even for loopback addresses.
fn without_proxy(command: &mut Command) {
    for name in ["grpc_proxy", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
}

/// A gRPC server that answers with its name, and its port.
fn server(gateway: &Gateway, name: &str) -> (Process, u16) {
    let mut command = python(gateway);
    command.arg(script(gateway, "server.py")).arg(name);
    let log = work_dir::new("grpc-server").unwrap().join("server.log");
    let server = Process::start(name, command, log).unwrap();
    let port = server.wait_until("its port", EFFECT_DEADLINE, || {
        let text = server.log().text();
        let port = text.lines().find_map(|line| line.strip_prefix("listening ")).context("not there yet")?;
        Ok(port.parse()?)
    });
    (server, port.unwrap())
}

/// A client that calls `xds:///greeter` until it is dropped.
fn client(gateway: &Gateway, language: Language) -> Process {
    let folder = work_dir::new("grpc-client").unwrap();
    let bootstrap = json!({
        "xds_servers": [{
            "server_uri": format!("127.0.0.1:{}", gateway.ports().xds_grpc),
            "channel_creds": [{ "type": "insecure" }],
            "server_features": ["xds_v3"],
        }],
        // Node's client wants a locality, be it empty.
        "node": { "id": format!("{language:?}-1"), "cluster": "callers", "locality": {} },
    });
    write(&folder.join("bootstrap.json"), &bootstrap.to_string()).unwrap();
    let mut command = match language {
        Language::Python => python(gateway),
        Language::Node => Command::new("node"),
    };
    without_proxy(&mut command);
    command.arg(script(
        gateway,
        match language {
            Language::Python => "client.py",
            Language::Node => "client.mjs",
        },
    ));
    command.arg("xds:///greeter").env("GRPC_XDS_BOOTSTRAP", folder.join("bootstrap.json"));
    Process::start("client", command, folder.join("client.log")).unwrap()
}

/// Waits until the last thing that the client saw is this.
fn wait_for(client: &Process, outcome: &str) {
    let seen = client.wait_until(outcome, EFFECT_DEADLINE, || {
        let text = client.log().text();
        holds(text.lines().last().is_some_and(|line| line.starts_with(&format!("{outcome} after"))))
    });
    seen.unwrap();
}

/// What the client saw, without the numbers of calls.
fn outcomes(client: &Process) -> Vec<String> {
    let text = client.log().text();
    text.lines().filter_map(|line| Some(line.split_once(" after ")?.0.to_owned())).collect()
}

fn text(listeners: &str, route: &str, first: u16, second: u16) -> String {
    format!(
        "version: v1\nproxies: {{ callers: {{ listeners: [{listeners}] }} }}\nlisteners:\n  greeter:\n    api_listener: true\n    \
         virtual_hosts:\n      - name: all\n        hosts: [\"*\"]\n        routes:\n          - {{ match: {{ path: {{ prefix: / }} }}, to: {route} }}\n\
         clusters:\n  first: {{ endpoints: [\"127.0.0.1:{first}\"] }}\n  second: {{ endpoints: [\"127.0.0.1:{second}\"] }}\n"
    )
}

/// Fails where a client refused something, or is not there.
fn expect_no_refusal(gateway: &Gateway) -> anyhow::Result<()> {
    let status = gateway.status()?;
    let proxies = status["proxies"].as_array().cloned().unwrap_or_default();
    let refused = |proxy: &serde_json::Value| {
        let types = proxy["types"].as_object().cloned().unwrap_or_default();
        types.len() < 4 || types.values().any(|of_type| !of_type["nack"].is_null())
    };
    if proxies.is_empty() || proxies.iter().any(refused) {
        bail!("refused, or not all asked for: {status:#}");
    }
    Ok(())
}

/// Edits, and waits until that is what a client gets first.
fn edit_before_the_client(gateway: &Gateway, change: impl FnOnce(String) -> String) {
    let before = gateway.status().unwrap()["config"]["version"].clone();
    gateway.edit(change).unwrap();
    wait_until("the edit to be served", EFFECT_DEADLINE, || {
        let status = gateway.status()?;
        let (version, group) = (&status["config"]["version"], &status["groups"]["callers"]);
        let is_served = group["version"] == *version && group["stage"] == "settled";
        holds(*version != before && is_served).with_context(|| status.to_string())
    })
    .unwrap();
}

fn follows_edits(language: Language) {
    let name = format!("grpc-{language:?}").to_lowercase();
    let gateway = Gateway::xds_only(&name, |_| text("greeter", "first", 1, 1)).unwrap();
    let ((_a, port_a), (_b, port_b)) = (server(&gateway, "a"), server(&gateway, "b"));
    edit_before_the_client(&gateway, |_| text("greeter", "first", port_a, port_b));
    let client = client(&gateway, language);
    wait_for(&client, "answer a");

    // To another cluster, which the client has yet to ask for.
    gateway.edit(|_| text("greeter", "second", port_a, port_b)).unwrap();
    wait_for(&client, "answer b");
    // Another endpoint of the same cluster.
    gateway.edit(|_| text("greeter", "second", port_a, port_a)).unwrap();
    wait_for(&client, "answer a");
    gateway.edit(|_| text("greeter", "first", port_b, port_a)).unwrap();
    wait_for(&client, "answer b");
    assert_eq!(outcomes(&client), ["answer a", "answer b", "answer a", "answer b"], "{}", client.report());
    expect_no_refusal(&gateway).unwrap();
}

/// Gives what the client saw, up to the error.
fn survives_a_crash_and_loses_its_service(language: Language) -> (Gateway, Process, Process) {
    let name = format!("grpc-removal-{language:?}").to_lowercase();
    let gateway = Gateway::xds_only(&name, |_| text("greeter", "first", 1, 1)).unwrap();
    let ((_a, port_a), (b, port_b)) = (server(&gateway, "a"), server(&gateway, "b"));
    edit_before_the_client(&gateway, |_| text("greeter", "first", port_a, port_b));
    let client = client(&gateway, language);
    wait_for(&client, "answer a");

    // A crash of xds-server is nothing to its clients; what changed meanwhile reaches them after it.
    gateway.kill_xds_server().unwrap();
    gateway.edit(|_| text("greeter", "first", port_b, port_b)).unwrap();
    gateway.restart_xds_server().unwrap();
    wait_for(&client, "answer b");
    expect_no_refusal(&gateway).unwrap();

    gateway.edit(|text| text.replace("[greeter]", "[]")).unwrap();
    wait_for(&client, "error UNAVAILABLE");
    assert_eq!(outcomes(&client), ["answer a", "answer b", "error UNAVAILABLE"], "{}", client.report());
    (gateway, client, b)
}

#[test]
fn a_python_client_follows_edits_without_a_failed_call() {
    follows_edits(Language::Python);
}

#[test]
fn a_node_client_follows_edits_without_a_failed_call() {
    follows_edits(Language::Node);
}

#[test]
fn a_python_client_survives_a_crash_loses_a_removed_service_and_regains_it() {
    let (gateway, client, _b) = survives_a_crash_and_loses_its_service(Language::Python);
    gateway.edit(|text| text.replace("[]", "[greeter]")).unwrap();
    wait_for(&client, "answer b");
}

/// It does not take a listener back that is as it was (`@grpc/grpc-js-xds` 1.14.1 compares it with the removed one).
#[test]
fn a_node_client_survives_a_crash_and_loses_a_removed_service() {
    survives_a_crash_and_loses_its_service(Language::Node);
}
