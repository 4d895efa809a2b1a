//! `status` and `wait` as a pipeline runs them, against a real server and a proxy that takes its time.

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use serde_json::Value;

use crate::program::{text, xds_server};
use crate::rollout::{Running, gateway};

/// A command about the server at this address. A timeout of an hour says: what is expected must come at once.
fn command(name: &str, http: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = xds_server();
    command.arg(name).args(["--server", &format!("http://{http}")]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn ended(command: Child) -> Output {
    let pid = rustix::process::Pid::from_child(&command);
    let mut ended = tokio::task::spawn_blocking(|| command.wait_with_output().unwrap());
    match tokio::time::timeout(Duration::from_secs(60), &mut ended).await {
        Ok(output) => output.unwrap(),
        Err(_) => {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            panic!("it did not end by itself: {:?}", ended.await.unwrap());
        }
    }
}

async fn run(name: &str, http: SocketAddr, arguments: &[&str]) -> Output {
    ended(command(name, http, arguments).spawn().unwrap()).await
}

/// The version of a gateway, by `validate --quiet`.
fn version(text_of: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, text_of).unwrap();
    let output = xds_server().args(["validate", "--quiet"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout).trim().to_owned()
}

async fn document(http: SocketAddr) -> Value {
    let output = run("status", http, &["--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn wait_ends_with_0_once_every_proxy_has_accepted_and_not_before() {
    let server = Running::start(&gateway("blue"), "1h").await;
    let mut proxy = server.proxy_with("blue").await;
    let green = version(&gateway("green"));
    let waiting = command("wait", server.http, &["--version", &green, "--timeout", "1h"]).spawn().unwrap();
    let waiting = tokio::spawn(ended(waiting));

    server.edit(&gateway("green"));
    proxy.expect_and_accept("CDS +green").await;
    proxy.subscribe::<ClusterLoadAssignment>(&["green"]).await;
    proxy.expect_and_accept("EDS +green").await;
    proxy.expect_and_accept("RDS +public").await;
    let removal = proxy.expect("CDS -blue").await;
    let behind = run("wait", server.http, &["--version", &green, "--timeout", "3s", "--group", "edge"]).await;
    assert_eq!(behind.status.code(), Some(1));
    assert!(text(&behind.stderr).contains("0 of 1 proxies have it, waiting for edge-1"), "{behind:?}");
    assert!(!waiting.is_finished(), "it did not wait");

    proxy.accept(&removal).await;
    proxy.expect_and_accept("EDS -blue").await;
    let output = waiting.await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout), format!("version {green} is with every connected proxy: edge (1)\n"));
}

#[tokio::test]
async fn wait_ends_with_1_at_once_when_the_version_was_rejected() {
    let server = Running::start(&gateway("blue"), "1h").await;
    let known = version(&gateway("blue"));
    server.edit(&gateway("blue").replace("prefix: /", "prefx: /"));
    let rejected = async {
        loop {
            let document = document(server.http).await;
            if let Some(version) = document["config"]["error"]["version"].as_str() {
                return version.to_owned();
            }
        }
    };
    let rejected = tokio::time::timeout(Duration::from_secs(60), rejected).await.unwrap();
    let output = run("wait", server.http, &["--version", &rejected, "--timeout", "1h"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did you mean `prefix`?"), "{output:?}");
    // What is served is with everybody all the same, and is so before the first proxy comes.
    let output = run("wait", server.http, &["--version", &known, "--timeout", "1h"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test]
async fn wait_ends_with_1_at_once_when_a_proxy_refuses() {
    let server = Running::start(&gateway("blue"), "1h").await;
    let mut proxy = server.proxy_with("blue").await;
    let green = version(&gateway("green"));
    server.edit(&gateway("green"));
    let added = proxy.expect("CDS +green").await;
    proxy.refuse(&added, "no such colour").await;
    let output = run("wait", server.http, &["--version", &green, "--timeout", "1h"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no such colour"), "{output:?}");

    let output = run("status", server.http, &[]).await;
    let shown = text(&output.stdout);
    assert!(shown.contains("edge-1 refused Cluster: no such colour"), "{shown}");
}

#[tokio::test]
async fn wait_is_patient_with_a_server_that_is_not_there_yet() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run("wait", free, &["--version", "1", "--timeout", "300ms"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did not arrive within 300ms: can't ask http://"), "{output:?}");
    assert_eq!(run("status", free, &[]).await.status.code(), Some(1));

    let version = version(&gateway("blue"));
    let waiting = command("wait", free, &["--version", &version, "--timeout", "1h"]).spawn().unwrap();
    let _server = Running::start_on(&gateway("blue"), "1h", free).await;
    assert_eq!(ended(waiting).await.status.code(), Some(0));
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 1));
    for arguments in [&[][..], &["--version", "1", "--timeout", "soon"]] {
        assert_eq!(run("wait", anywhere, arguments).await.status.code(), Some(2), "{arguments:?}");
    }
    let output = xds_server().args(["status", "--server", "here"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test]
async fn status_that_watches_prints_a_line_a_group_where_there_is_no_terminal() {
    use std::io::{BufRead, BufReader};
    let server = Running::start(&gateway("blue"), "1h").await;
    let _proxy = server.proxy_with("blue").await;
    let mut watching = command("status", server.http, &["--watch"]).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let found = tokio::task::spawn_blocking(move || {
        lines.map_while(Result::ok).find(|line| line.contains("stage=settled proxies=1 arrived=1"))
    });
    let found = tokio::time::timeout(Duration::from_secs(60), found).await;
    watching.kill().unwrap();
    watching.wait().unwrap();
    let line = found.expect("a line comes").unwrap().expect("the group's line");
    assert!(line.starts_with("edge version="), "{line}");
}
