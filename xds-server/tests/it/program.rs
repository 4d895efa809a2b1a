//! The program as operators run it: exit codes, what it says, what it binds.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const GOOD: &str = "version: v1\nclusters: { api: { endpoints: [127.0.0.1:1] } }\n";

pub fn xds_server() -> Command {
    Command::new(env!("CARGO_BIN_EXE_xds-server"))
}

fn validate(text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, text).unwrap();
    xds_server().arg("validate").arg(&path).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn validate_says_what_is_right_and_exits_0() {
    let output = validate(GOOD);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("is right: version "), "{output:?}");
}

#[test]
fn validate_shows_what_is_wrong_and_exits_78() {
    let output = validate("version: v1\nclusters:\n  api: { endpoints: [], conect_timeout: 1s }\n");
    assert_eq!(output.status.code(), Some(78));
    let shown = text(&output.stderr);
    for part in [
        "error: unknown field `conect_timeout`",
        "gateway.yaml:3:25",
        "^^^^^^^^^^^^^^",
        "did you mean `connect_timeout`?",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn validate_of_nothing_exits_78_and_names_it() {
    let output = xds_server().args(["validate", "no/such/gateway.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("can't read no/such/gateway.yaml"));
}

#[test]
fn bad_usage_exits_2() {
    for arguments in [&["serve", "--no-such-flag"][..], &["serve", "--quiet-period", "soon"], &[]] {
        assert_eq!(xds_server().args(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_schema_takes_what_the_reference_names() {
    let schema = xds_server().arg("schema").output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["properties"]["listeners"].is_object());
    let reference = xds_server().arg("reference").output().unwrap();
    assert!(text(&reference.stdout).contains("| `listeners` |"));
}

fn serve(config: &Path) -> Command {
    let mut command = xds_server();
    command
        .args([
            "serve",
            "--grpc-address",
            "127.0.0.1:0",
            "--http-address",
            "127.0.0.1:0",
            "--quota-address",
            "127.0.0.1:0",
        ])
        .args(["--wasm-delivery", "file", "--config"])
        .arg(config);
    command.stderr(Stdio::piped());
    command
}

#[test]
fn serve_with_a_bad_configuration_binds_nothing_and_exits_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, "version: v9\n").unwrap();
    let output = serve(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let shown = text(&output.stderr);
    assert!(shown.contains("gateway.yaml:1:10") && !shown.contains("listening"), "{shown}");
}

#[test]
fn serve_without_filters_that_envoys_could_fetch_binds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, GOOD).unwrap();
    let refused = |arguments: &[&str]| {
        let mut command = xds_server();
        command.args(["serve", "--config"]).arg(&path).arg("--wasm-dir").arg(folder.path());
        let output = command.args(arguments).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, shown) = refused(&[]);
    assert_eq!(code, Some(78), "{shown}");
    assert!(
        shown.contains("gateway.wasm") && shown.contains("make wasm") && !shown.contains("listening"),
        "{shown}"
    );
    let (code, shown) = refused(&["--http-address", "0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("--wasm-url") && !shown.contains("listening"), "{shown}");
}

#[test]
fn serve_on_a_taken_port_exits_1_and_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, GOOD).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = xds_server()
        .args([
            "serve",
            "--wasm-delivery",
            "file",
            "--quota-address",
            "127.0.0.1:0",
            "--grpc-address",
            &address,
            "--config",
        ])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("can't bind grpc to {address}")), "{output:?}");
}

/// Ends the process also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sigterm_drains_and_exits_0() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, GOOD).unwrap();
    let mut server = Running(serve(&path).spawn().unwrap());
    let lines = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    for line in lines.map_while(Result::ok) {
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
        if entry["message"] == "listening" {
            told.push(entry["endpoint"].as_str().unwrap().to_owned());
        }
        if entry["message"] == "configuration accepted" {
            let pid = server.0.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        }
    }
    assert_eq!(told, ["grpc", "http", "quota"]);
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn serve_with_a_certificate_that_does_not_fit_binds_nothing_and_exits_78() {
    let authority = crate::secure::Authority::new("servers");
    let (one, other) = (authority.issue("xds.internal"), authority.issue("xds.internal"));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, text) in [("gateway.yaml", GOOD), ("port.pem", &one.chain), ("port.key", &other.key)] {
        std::fs::write(path(name), text).unwrap();
    }
    let serve = |arguments: &[(&str, &str)]| {
        let mut command = serve(&path("gateway.yaml"));
        for (flag, file) in arguments {
            command.arg(flag).arg(path(file));
        }
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let pair = [("--grpc-certificate", "port.pem"), ("--grpc-key", "port.key")];
    let (code, shown) = serve(&pair);
    assert_eq!(code, Some(78), "{shown}");
    assert!(shown.contains("port.key is not the key") && !shown.contains("listening"), "{shown}");
    std::fs::write(path("port.key"), &one.key).unwrap();
    let (code, shown) = serve(&[pair[0], pair[1], ("--grpc-client-ca", "port.key")]);
    assert_eq!(code, Some(78), "{shown}");
    assert!(
        shown.contains("there is no certificate in the file") && !shown.contains("BEGIN PRIVATE"),
        "{shown}"
    );
    assert_eq!(serve(&pair[..1]).0, Some(2));
    assert_eq!(serve(&[("--grpc-client-ca", "port.pem")]).0, Some(2));
}
