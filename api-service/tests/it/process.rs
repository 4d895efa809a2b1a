//! The binary itself: usage, exit codes, log lines, signals.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_api-service"));
    let ports = ["serve", "--public-address", "127.0.0.1:0", "--internal-address", "127.0.0.1:0"];
    command.args(ports).args(["--database", "sqlite::memory:"]).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(flags: &[&str]) -> Output {
    command(flags).output().unwrap()
}

/// Kills what a failed test would leave behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn bad_usage_exits_2_and_names_the_flag() {
    for flags in [["--access-token-ttl", "soon"], ["--identity", "anyone"], ["--colour", "red"]] {
        let output = run(&flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(flags[0]));
    }
}

#[test]
fn bad_configuration_exits_78_before_anything_is_bound() {
    for flags in [["--body-timeout", "1h"], ["--database", "mysql://x"], ["--log", "a=b=c"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_api-service"));
        let output = command.arg("serve").args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{flags:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("listening"));
    }
}

#[test]
fn an_address_in_use_exits_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_api-service"));
    command.args(["serve", "--database", "sqlite::memory:", "--public-address", &address]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address));
}

#[test]
fn a_database_that_cannot_be_opened_exits_1() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_api-service"));
    let output = command.args(["serve", "--database", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn help_shows_every_variable_and_default() {
    let output = Command::new(env!("CARGO_BIN_EXE_api-service")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for text in ["TOLLGATE_API_DATABASE", "[default: 15m]", "127.0.0.1:8081", "Exit codes:", "Examples:"] {
        assert!(help.contains(text), "{text}\n{help}");
    }
}

#[cfg(unix)]
#[test]
fn listening_is_logged_as_json_and_both_signals_stop_with_exit_code_0() {
    for signal in ["TERM", "INT"] {
        let mut child = Running(command(&[]).spawn().unwrap());
        let mut log = BufReader::new(child.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        for endpoint in ["public", "internal"] {
            let line: Value = serde_json::from_str(&log.next().unwrap()).unwrap();
            assert_eq!(line["message"], "listening");
            assert_eq!(line["endpoint"], endpoint);
            let address: std::net::SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
            assert_ne!(address.port(), 0);
        }
        let kill =
            Command::new("kill").args([format!("-{signal}"), child.0.id().to_string()]).status().unwrap();
        assert!(kill.success());
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
        let rest: Vec<String> = log.collect();
        assert!(rest.last().unwrap().contains("\"stopped\""), "{rest:?}");
        let mut stdout = String::new();
        child.0.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        assert_eq!(stdout, "");
    }
}
