//! `make run`, as a user runs it: it starts, shows what to try, shows pushes, and leaves nothing behind.

use std::{
    fs, net::TcpListener, os::unix::process::ExitStatusExt, path::PathBuf, process::Command, time::Duration,
};

use anyhow::ensure;
use rustix::process::{Pid, Signal};
use tollgate_tests::{
    gateway::replace,
    http_client::Client,
    port_owner,
    ports::{Ports, loopback},
    process::Process,
    render,
    toolbox::Toolbox,
    wait::{holds, wait_until},
    work_dir,
};

use crate::yaml;

/// Four servers, on a machine that may be busy.
const READY: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);

struct Run {
    process: Process,
    ports: Ports,
    yaml: PathBuf,
}

impl Run {
    fn start(ports: Ports) -> Self {
        let toolbox = Toolbox::find().unwrap();
        let folder = work_dir::new("launcher").unwrap();
        let yaml = folder.join("gateway.yaml");
        let text = fs::read_to_string(toolbox.envoy_config("gateway.yaml")).unwrap();
        fs::write(&yaml, render::gateway(&text, &ports)).unwrap();
        let mut command = Command::new(toolbox.binary("tollgate-run").unwrap());
        command.arg("--config").arg(&yaml).arg("--folder").arg(folder.join("run"));
        for (name, port) in ports.named() {
            command.arg(format!("--{name}-port={port}"));
        }
        let process = Process::start("tollgate-run", command, folder.join("tollgate-run.log")).unwrap();
        Self { process, ports, yaml }
    }

    fn ready(ports: Ports) -> Self {
        let run = Self::start(ports);
        run.wait_for_line("Ctrl-C stops everything", READY);
        run
    }

    fn wait_for_line(&self, part: &str, deadline: Duration) {
        let log = self.process.log();
        self.process.wait_until(&format!("“{part}”"), deadline, || holds(log.text().contains(part))).unwrap();
    }

    /// The servers that it has started.
    fn servers(&self) -> Vec<i32> {
        let children = fs::read_dir("/proc").unwrap().flatten();
        let pids = children.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| parent(*pid) == Some(self.process.pid())).collect()
    }
}

/// From `/proc/PID/stat`, where the parent stands behind the name in parentheses and the state.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn assert_gone(servers: &[i32], ports: &Ports) {
    wait_until("all servers to be gone", SOON, || {
        // One that nobody has reaped yet has no command line any more.
        let is_gone =
            |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty());
        ensure!(servers.iter().all(is_gone), "some of {servers:?} are there");
        // The kernel closes what a killed process held a moment later.
        let taken = ports.named().into_iter().find(|(_, port)| port_owner::of(*port).is_some());
        ensure!(taken.is_none(), "{taken:?} is taken");
        Ok(())
    })
    .unwrap();
}

/// The documented ports where they are free, so that the files run as they are; else others.
fn documented_or_free() -> Ports {
    let documented = Ports::default();
    let is_free = documented.named().iter().all(|(_, port)| port_owner::of(*port).is_none());
    if is_free { documented } else { Ports::free().unwrap() }
}

#[test]
fn it_starts_serves_shows_pushes_and_leaves_nothing_behind() {
    let run = Run::ready(documented_or_free());
    let servers = run.servers();
    assert_eq!(servers.len(), 4, "{}", run.process.report());
    assert_eq!(Client::new(run.ports.edge).get("/healthz").send().unwrap().status, 200);

    let text = fs::read_to_string(&run.yaml).unwrap();
    replace(&run.yaml, &yaml::with_route(&text, &yaml::prefix("/pushed", "api"))).unwrap();
    run.wait_for_line("pushed ", SOON);
    replace(&run.yaml, &text.replace("clusters:", "clutsers:")).unwrap();
    run.wait_for_line("rejected ", SOON);
    let line = text.lines().position(|line| line.starts_with("clusters:")).unwrap() + 1;
    run.wait_for_line(&format!("gateway.yaml:{line}:1"), SOON);

    let status = run.process.stop(SOON).unwrap();
    assert_eq!(status.code(), Some(0), "{}", run.process.report());
    assert_gone(&servers, &run.ports);

    // A second run on the same ports.
    let again = Run::ready(run.ports);
    let servers = again.servers();
    assert_eq!(again.process.kill().unwrap().signal(), Some(9));
    assert_gone(&servers, &again.ports);
}

#[test]
fn the_printed_requests_work_when_they_are_pasted() {
    let run = Run::ready(Ports::free().unwrap());
    let printed = run.process.log().text();
    let (_, requests) = printed.split_once("The first five requests").unwrap();
    let (_, script) = requests.split_once(":\n").unwrap();
    let (script, _) = script.split_once("Ctrl-C").unwrap();
    assert_eq!(script.lines().filter(|line| line.trim_start().starts_with("# ")).count(), 5, "{script}");
    let output = Command::new("bash").args(["-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let statuses: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)).collect();
    // Logging in and making the key print nothing: their answers go into TOKEN and KEY.
    assert_eq!(statuses, ["200", "201", "200", "200"], "{script}\n{said}\n{}", run.process.report());
}

#[test]
fn a_taken_port_is_named_with_the_process_that_holds_it() {
    let ports = Ports::free().unwrap();
    let _held = TcpListener::bind(loopback(ports.xds_http)).unwrap();
    let run = Run::start(ports);
    let ended = wait_until("the end", SOON, || {
        run.process.exit_status()?.ok_or_else(|| anyhow::anyhow!("still running"))
    });
    assert_eq!(ended.unwrap().code(), Some(1));
    let said = run.process.log().text();
    let us = format!("port {} is taken by process {} (", ports.xds_http, std::process::id());
    assert!(said.contains(&us), "{said}");
    assert!(said.contains("--xds-http-port"), "{said}");
}

#[test]
fn when_a_server_dies_all_stop_and_its_log_is_shown() {
    let run = Run::ready(Ports::free().unwrap());
    let servers = run.servers();
    let command_line = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_api = |pid: &&i32| String::from_utf8_lossy(&command_line(**pid)).contains("/api-service\0");
    let victim = *servers.iter().find(is_api).unwrap();
    // Not by the program `kill`, which the smallest Debian lacks.
    rustix::process::kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    let ended = wait_until("the launcher's end", SOON, || {
        run.process.exit_status()?.ok_or_else(|| anyhow::anyhow!("still running"))
    });
    assert_eq!(ended.unwrap().code(), Some(1));
    let said = run.process.log().text();
    assert!(said.contains("api-service ended by itself"), "{said}");
    assert_gone(&servers, &run.ports);
}
