//! How the two servers behave as processes: exit codes, signals, and the addresses that they report.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::Context;
use tollgate_tests::{http_client::Client, process::Process, toolbox::Toolbox, wait::wait_until, work_dir};

use crate::yaml::{self, Edge};

const SOON: Duration = Duration::from_secs(20);
/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: i32 = 78;
const BAD_USAGE: i32 = 2;

fn command(name: &str) -> Command {
    Command::new(Toolbox::find().unwrap().binary(name).unwrap())
}

fn yaml_file(text: &str) -> PathBuf {
    let path = work_dir::new("servers").unwrap().join("gateway.yaml");
    fs::write(&path, text).unwrap();
    path
}

fn good_yaml() -> String {
    Edge::with_routes([&yaml::prefix("/", "a")]).text(&Default::default())
}

fn serve_xds(yaml: &str) -> Process {
    let config = yaml_file(yaml);
    let log = config.with_file_name("xds-server.log");
    let mut command = command("xds-server");
    command.arg("serve").arg("--config").arg(config);
    command.args(["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]);
    command.args(["--quota-address", "127.0.0.1:0"]);
    command.arg("--wasm-dir").arg(Toolbox::find().unwrap().wasm);
    Process::start("xds-server", command, log).unwrap()
}

fn serve_api() -> Process {
    let log = work_dir::new("servers").unwrap().join("api-service.log");
    let mut command = command("api-service");
    command.args(["serve", "--database", "sqlite::memory:"]);
    command.args(["--public-address", "127.0.0.1:0", "--internal-address", "127.0.0.1:0"]);
    Process::start("api-service", command, log).unwrap()
}

/// The port that the process says it listens on.
fn port(process: &Process, endpoint: &str) -> u16 {
    let found = process.wait_until(&format!("the address of {endpoint}"), SOON, || {
        let entries = process.log().entries_from(0);
        let mut listening = entries.iter().filter(|entry| entry.message() == "listening");
        let entry = listening.find(|entry| entry.field("endpoint").as_deref() == Some(endpoint));
        entry.and_then(|entry| entry.field("address")).context("not logged yet")
    });
    let address = found.unwrap();
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn servers_take_port_zero_and_say_which_they_got() {
    let api = serve_api();
    let xds = serve_xds(&good_yaml());
    let endpoints = [
        (&api, "public", "/healthz"),
        (&api, "internal", "/healthz"),
        (&xds, "http", "/healthz"),
        (&xds, "http", "/readyz"),
    ];
    for (process, endpoint, path) in endpoints {
        let client = Client::new(port(process, endpoint));
        process.wait_until("200", SOON, || client.get(path).send()?.expect_status(200)).unwrap();
    }
    assert_ne!(port(&xds, "grpc"), 0);
}

#[test]
fn sigterm_ends_both_servers_with_status_0() {
    let api = serve_api();
    let xds = serve_xds(&good_yaml());
    port(&api, "public");
    port(&xds, "grpc");
    for process in [api, xds] {
        let status = process.stop(SOON).unwrap();
        assert_eq!(status.code(), Some(0), "{}", process.report());
    }
}

#[test]
fn a_bad_configuration_ends_with_78_before_anything_is_bound() {
    let xds = serve_xds("version: v1\nlistners: {}\n");
    let status = wait_until("the end", SOON, || xds.exit_status()?.context("still running")).unwrap();
    assert_eq!(status.code(), Some(BAD_CONFIGURATION), "{}", xds.report());
    assert!(xds.log().entries_from(0).iter().all(|entry| entry.message() != "listening"), "{}", xds.report());
}

#[test]
fn validate_says_what_is_wrong_where_and_what_would_be_right() {
    let validate = |text: &str| {
        let file = yaml_file(text);
        let output = command("xds-server").arg("validate").arg(&file).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).replace(file.to_str().unwrap(), "gateway.yaml"))
    };
    let (status, said) = validate(&good_yaml());
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = validate("version: v1\nlistners: {}\n");
    assert_eq!(status, Some(BAD_CONFIGURATION), "{said}");
    for part in ["gateway.yaml:2:1", "2 | listners: {}", "^^^^^^^^", "did you mean `listeners`?"] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
}

#[test]
fn bad_usage_ends_with_2() {
    for name in ["xds-server", "api-service"] {
        let output = command(name).arg("--no-such-flag").output().unwrap();
        assert_eq!(output.status.code(), Some(BAD_USAGE), "{name}");
        assert!(command(name).arg("--help").output().unwrap().status.success(), "{name}");
    }
}

#[test]
fn the_example_of_the_repository_is_valid() {
    let example = Toolbox::find().unwrap().envoy_config("gateway.yaml");
    let output = command("xds-server").arg("validate").arg(example).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
