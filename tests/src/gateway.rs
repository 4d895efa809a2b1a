//! A whole gateway for tests: the four servers on free ports, in a folder of their own, with a YAML that tests edit.
//!
//! When a test that uses one fails, every server's command, status and end of log are printed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    http_client::Client,
    ports::Ports,
    process::{Entry, Process},
    render,
    stack::{AnotherEdge, Proxy, Stack, read, write},
    toolbox::Toolbox,
    wait::{self, wait_until},
    work_dir,
};

pub use shared::{Observed, Shared};

mod shared;

/// How long an edit may take to reach the Envoys, and a request to be answered as it says.
pub const EFFECT_DEADLINE: Duration = Duration::from_secs(20);

/// Running servers.
#[derive(Debug)]
pub struct Gateway {
    stack: Stack,
    /// `None` between a kill and the restart.
    xds_server: Mutex<Option<Process>>,
    xds_starts: AtomicU32,
    /// Envoys, and api-service where it is there.
    others: Mutex<Vec<Process>>,
    edits: Mutex<()>,
}

impl Gateway {
    /// All four servers on the repository's `gateway.yaml`, whose text `change` may change.
    pub fn full(name: &str, change: impl FnOnce(String, &Ports) -> String) -> Result<Self> {
        let stack = stack(name)?;
        let original = read(&stack.toolbox.envoy_config("gateway.yaml"))?;
        let text = change(render::gateway(&original, &stack.ports), &stack.ports);
        write(&stack.gateway, &text)?;
        // The YAML may have xds-server fetch api-service's keys, so api-service is there first.
        let api_service = stack.start_api_service()?;
        let xds_server = stack.start_xds_server("xds-server.log")?;
        let others = vec![api_service, stack.start_proxy(Proxy::Sidecar)?, stack.start_proxy(Proxy::Edge)?];
        let gateway = Self::of(stack, xds_server, others);
        wait_until("/healthz through the edge", EFFECT_DEADLINE, || {
            gateway.edge().get("/healthz").send()?.expect_status(200)
        })?;
        Ok(gateway)
    }

    /// xds-server and the edge Envoy only, on this YAML.
    pub fn edge_only(name: &str, yaml: impl FnOnce(&Ports) -> String) -> Result<Self> {
        Self::start_edge(stack(name)?, |folder, ports| one_file(folder, &yaml(ports)))
    }

    /// As [`Self::edge_only`], with further arguments for xds-server.
    pub fn edge_only_with(
        name: &str,
        xds_arguments: &[&str],
        yaml: impl FnOnce(&Ports) -> String,
    ) -> Result<Self> {
        let xds_arguments = xds_arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let stack = Stack { xds_arguments, ..stack(name)? };
        Self::start_edge(stack, |folder, ports| one_file(folder, &yaml(ports)))
    }

    /// As [`Self::edge_only`], with one worker in Envoy, so that a bench can load it fully.
    pub fn single_worker(name: &str, yaml: impl FnOnce(&Ports) -> String) -> Result<Self> {
        let stack = Stack { concurrency: 1, ..stack(name)? };
        Self::start_edge(stack, |folder, ports| one_file(folder, &yaml(ports)))
    }

    /// As [`Self::edge_only`], on a stack that `change` may change.
    pub fn edge_only_on(
        name: &str,
        change: impl FnOnce(&mut Stack) -> Result<()>,
        yaml: impl FnOnce(&Ports) -> String,
    ) -> Result<Self> {
        let mut stack = stack(name)?;
        change(&mut stack)?;
        Self::start_edge(stack, |folder, ports| one_file(folder, &yaml(ports)))
    }

    /// As [`Self::edge_only`], on the file or folder that `lay_out` makes in an empty folder.
    pub fn edge_only_from(
        name: &str,
        lay_out: impl FnOnce(&Path, &Ports) -> Result<PathBuf>,
    ) -> Result<Self> {
        Self::start_edge(stack(name)?, lay_out)
    }

    /// xds-server alone, on this YAML, for clients that are no Envoys.
    pub fn xds_only(name: &str, yaml: impl FnOnce(&Ports) -> String) -> Result<Self> {
        let stack = stack(name)?;
        write(&stack.gateway, &yaml(&stack.ports))?;
        let xds_server = stack.start_xds_server("xds-server.log")?;
        Ok(Self::of(stack, xds_server, Vec::new()))
    }

    fn start_edge(mut stack: Stack, lay_out: impl FnOnce(&Path, &Ports) -> Result<PathBuf>) -> Result<Self> {
        let folder = stack.folder.join("config");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        stack.gateway = lay_out(&folder, &stack.ports)?;
        let xds_server = stack.start_xds_server("xds-server.log")?;
        let edge = stack.start_proxy(Proxy::Edge)?;
        Ok(Self::of(stack, xds_server, vec![edge]))
    }

    fn of(stack: Stack, xds_server: Process, others: Vec<Process>) -> Self {
        Self {
            stack,
            xds_server: Mutex::new(Some(xds_server)),
            xds_starts: AtomicU32::new(1),
            others: Mutex::new(others),
            edits: Mutex::new(()),
        }
    }

    /// What the servers bind.
    pub fn ports(&self) -> &Ports {
        &self.stack.ports
    }

    /// Where the binaries are.
    pub fn toolbox(&self) -> &Toolbox {
        &self.stack.toolbox
    }

    /// Where the YAML lies.
    pub fn yaml_path(&self) -> &Path {
        &self.stack.gateway
    }

    /// Sends requests to the edge's public listener.
    pub fn edge(&self) -> Client {
        Client::new(self.ports().edge)
    }

    /// Sends requests to xds-server's status page.
    pub fn xds(&self) -> Client {
        Client::new(self.ports().xds_http)
    }

    /// Number of the process that is the Envoy with this name.
    pub fn pid(&self, proxy: Proxy) -> Option<i32> {
        lock(&self.others).iter().find(|process| process.name() == proxy.name()).map(Process::pid)
    }

    /// Number of xds-server's process.
    pub fn xds_pid(&self) -> Result<i32> {
        self.with_xds(|xds_server| Ok(xds_server.pid()))
    }

    /// Starts one more edge Envoy, which shares the first one's listeners.
    pub fn add_edge(&self, edge: &AnotherEdge<'_>) -> Result<()> {
        let process = self.stack.start_another_edge(edge)?;
        lock(&self.others).push(process);
        Ok(())
    }

    /// Kills an edge Envoy, or api-service, as a crash does.
    pub fn kill(&self, name: &str) -> Result<()> {
        let mut others = lock(&self.others);
        let index = others.iter().position(|process| process.name() == name);
        let process = others.swap_remove(index.with_context(|| format!("nothing is named {name}"))?);
        process.kill().map(drop)
    }

    /// Has a server end as an operator would, and returns how it did.
    pub fn stop(&self, name: &str) -> Result<ExitStatus> {
        let others = lock(&self.others);
        let process = others.iter().find(|process| process.name() == name);
        process.with_context(|| format!("nothing is named {name}"))?.stop(EFFECT_DEADLINE)
    }

    /// Waits until a group in xds-server's `/status` is as `is_there` says, and returns it.
    pub fn wait_for_group(&self, what: &str, is_there: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_until(&format!("{what} in /status"), EFFECT_DEADLINE, || {
            let group = self.status()?["groups"]["edge"].take();
            wait::holds(is_there(&group)).with_context(|| format!("the group is {group}"))?;
            Ok(group)
        })
    }

    /// Changes the YAML in one step, as an editor does: a new file is renamed over the old.
    pub fn edit(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        let _one_at_a_time = lock(&self.edits);
        let changed = change(read(self.yaml_path())?);
        replace(self.yaml_path(), &changed)
    }

    /// Waits until a GET of the path through the edge has this status.
    pub fn wait_for_status(&self, path: &str, status: u16) -> Result<()> {
        wait_until(&format!("{status} on {path}"), EFFECT_DEADLINE, || {
            self.edge().get(path).send()?.expect_status(status).map(drop)
        })
    }

    /// xds-server's `/status`.
    pub fn status(&self) -> Result<Value> {
        self.xds().get("/status").send()?.expect_status(200)?.json()
    }

    /// The end of xds-server's log, for [`Self::wait_for_entry`].
    pub fn xds_log_end(&self) -> Result<u64> {
        self.with_xds(|xds_server| Ok(xds_server.log().end()))
    }

    /// Waits until xds-server has logged this message behind the mark.
    pub fn wait_for_entry(&self, message: &str, mark: u64) -> Result<Entry> {
        self.with_xds(|xds_server| {
            xds_server.wait_until(&format!("the log entry “{message}”"), EFFECT_DEADLINE, || {
                let mut entries = xds_server.log().entries_from(mark).into_iter();
                entries.find(|entry| entry.says(message)).context("not logged yet")
            })
        })
    }

    /// Kills xds-server as a crash does: no farewell.
    pub fn kill_xds_server(&self) -> Result<()> {
        let process = lock(&self.xds_server).take().context("xds-server is not running")?;
        process.kill().map(drop)
    }

    /// Starts xds-server again on the same ports, and waits until it is ready.
    pub fn restart_xds_server(&self) -> Result<()> {
        let number = self.xds_starts.fetch_add(1, Ordering::Relaxed) + 1;
        let process = self.stack.start_xds_server(&format!("xds-server-{number}.log"))?;
        *lock(&self.xds_server) = Some(process);
        Ok(())
    }

    /// Waits until an Envoy has connected to xds-server and has taken all that it was sent.
    pub fn wait_until_connected(&self, proxy: Proxy) -> Result<()> {
        wait_until(&format!("{} in /status", proxy.name()), EFFECT_DEADLINE, || {
            let status = self.status()?;
            let proxies = status["proxies"].as_array().context("no proxies in /status")?;
            let is_there = proxies.iter().any(|entry| entry["cluster"] == proxy.name());
            wait::holds(is_there).with_context(|| format!("/status says {status}"))
        })
    }

    /// Command, status and end of log of every server.
    pub fn report(&self) -> String {
        let (xds_server, others) = (lock(&self.xds_server), lock(&self.others));
        let processes = xds_server.iter().chain(&*others);
        processes.map(Process::report).collect::<Vec<_>>().join("\n")
    }

    fn with_xds<T>(&self, ask: impl FnOnce(&Process) -> Result<T>) -> Result<T> {
        match lock(&self.xds_server).as_ref() {
            Some(xds_server) => ask(xds_server),
            None => bail!("xds-server is not running"),
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

fn one_file(folder: &Path, text: &str) -> Result<PathBuf> {
    let file = folder.join("gateway.yaml");
    write(&file, text)?;
    Ok(file)
}

/// Replaces a file in one step.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("yaml.new~");
    write(&new, text)?;
    fs::rename(&new, path).with_context(|| format!("renaming over {}", path.display()))
}

fn stack(name: &str) -> Result<Stack> {
    let folder = work_dir::new(name)?;
    let gateway = folder.join("gateway.yaml");
    let (toolbox, ports) = (Toolbox::find()?, Ports::free()?);
    Ok(Stack { toolbox, ports, folder, gateway, concurrency: 2, xds_arguments: Vec::new(), xds_tls: None })
}

/// A test that failed while it held the lock has said so itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
