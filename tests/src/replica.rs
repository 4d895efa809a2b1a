//! One of several xds-servers that follow the same etcd: on ports and with a state of its own, killed and started as a test
//! likes.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    gateway::EFFECT_DEADLINE,
    http_client::Client,
    ports::{free, loopback},
    process::Process,
    toolbox::Toolbox,
    wait::{holds, wait_until},
};

const READY_DEADLINE: Duration = Duration::from_secs(60);

/// An xds-server that may be killed.
#[derive(Debug)]
pub struct Replica {
    toolbox: Toolbox,
    folder: PathBuf,
    etcd: String,
    arguments: Vec<String>,
    grpc: u16,
    http: u16,
    starts: AtomicU32,
    process: Mutex<Option<Process>>,
}

impl Replica {
    /// Will follow the etcd at this endpoint, with its log and state in this folder.
    pub fn new(toolbox: &Toolbox, folder: PathBuf, etcd: &str) -> Result<Self> {
        Ok(Self {
            toolbox: toolbox.clone(),
            folder,
            etcd: etcd.to_owned(),
            arguments: Vec::new(),
            grpc: free()?,
            http: free()?,
            starts: AtomicU32::new(0),
            process: Mutex::default(),
        })
    }

    /// With further arguments.
    pub fn with(mut self, arguments: &[String]) -> Self {
        self.arguments = arguments.to_vec();
        self
    }

    /// Starts it and waits until it is ready; fails as soon as it has ended.
    pub fn start(&self) -> Result<()> {
        let number = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let mut command = Command::new(self.toolbox.binary("xds-server")?);
        command.args(["serve", "--etcd-endpoints", &self.etcd, "--etcd-start-timeout", "1s"]);
        command.args(["--grpc-address", &loopback(self.grpc).to_string()]);
        command.args(["--quota-address", &loopback(0).to_string()]);
        command.args(["--http-address", &loopback(self.http).to_string()]);
        // Replicas that serve the filters would need one address for all.
        command.args(["--wasm-delivery", "file", "--wasm-dir"]).arg(&self.toolbox.wasm);
        command.arg("--state-dir").arg(self.folder.join("state")).args(&self.arguments);
        let process =
            Process::start("xds-server", command, self.folder.join(format!("xds-server-{number}.log")))?;
        process.wait_until("being ready", READY_DEADLINE, || {
            self.http().get("/readyz").send()?.expect_status(200).map(drop)
        })?;
        *self.process() = Some(process);
        Ok(())
    }

    /// Kills it as a crash does.
    pub fn kill(&self) -> Result<()> {
        let process = self.process().take().context("this replica is not running")?;
        process.kill().map(drop)
    }

    /// Where Envoys connect.
    pub fn grpc_port(&self) -> u16 {
        self.grpc
    }

    /// Sends requests to its pages.
    pub fn http(&self) -> Client {
        Client::new(self.http)
    }

    /// Its process's number.
    pub fn pid(&self) -> Result<i32> {
        self.process().as_ref().map(Process::pid).context("this replica is not running")
    }

    /// Its `/status`.
    pub fn status(&self) -> Result<Value> {
        self.http().get("/status").send()?.expect_status(200)?.json()
    }

    /// Waits until its `/status` is as `is_there` says, and returns it.
    pub fn wait_for(&self, what: &str, is_there: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_until(&format!("{what} in /status"), EFFECT_DEADLINE, || {
            let status = self.status()?;
            holds(is_there(&status)).with_context(|| format!("the status is {status}"))?;
            Ok(status)
        })
    }

    /// The sum of its metric's values whose labels hold all of these texts.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let text = self.http().get("/metrics").send()?.expect_status(200)?.text();
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(name)?;
            let is_it = rest.is_empty() || rest.starts_with('{');
            (is_it && labels.iter().all(|label| rest.contains(label))).then(|| value.parse::<f64>().ok())?
        });
        Ok(values.sum())
    }

    /// All that it has logged since its last start.
    pub fn log(&self) -> String {
        self.process().as_ref().map(|process| process.log().text()).unwrap_or_default()
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.process().as_ref().map_or_else(String::new, Process::report));
        }
    }
}
