//! A private etcd: one member on free ports, with its data in a folder of its own, killed and started as a test likes; with
//! TLS and a password where that is what is tested.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    ports::{free, loopback},
    process::Process,
};

/// How long a member may take to answer. Generous: it syncs its disk, and the machine may be compiling.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The password of `root`, where there is one.
pub const PASSWORD: &str = "correct horse battery staple";

/// Files that both ends of a connection with TLS need.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The authority that signed both certificates.
    pub ca: PathBuf,
    /// A certificate for both ends.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// An etcd that may be killed.
#[derive(Debug)]
pub struct Etcd {
    folder: PathBuf,
    tls: Option<TlsFiles>,
    client: u16,
    peer: u16,
    starts: AtomicU32,
    asks_who: AtomicBool,
    process: Mutex<Option<Process>>,
}

impl Etcd {
    /// Starts one with its data in this folder, and waits until it answers.
    pub fn start(folder: PathBuf) -> Result<Self> {
        Self::start_with(folder, None)
    }

    /// Starts one that speaks TLS, asks clients for a certificate of the same authority, and knows only `root`, by
    /// [`PASSWORD`].
    pub fn start_secured(folder: PathBuf, tls: TlsFiles) -> Result<Self> {
        let etcd = Self::start_with(folder, Some(tls))?;
        etcd.ctl(&["user", "add", &format!("root:{PASSWORD}")], "")?;
        etcd.ctl(&["user", "grant-role", "root", "root"], "")?;
        etcd.ctl(&["auth", "enable"], "")?;
        etcd.asks_who.store(true, Ordering::Relaxed);
        Ok(etcd)
    }

    fn start_with(folder: PathBuf, tls: Option<TlsFiles>) -> Result<Self> {
        let (client, peer) = (free()?, free()?);
        let (starts, asks_who) = (AtomicU32::default(), AtomicBool::default());
        let etcd = Self { folder, tls, client, peer, starts, asks_who, process: Mutex::default() };
        etcd.restart()?;
        Ok(etcd)
    }

    /// Where clients connect: HOST:PORT.
    pub fn endpoint(&self) -> String {
        loopback(self.client).to_string()
    }

    /// The port of that.
    pub fn port(&self) -> u16 {
        self.client
    }

    /// Starts it again on its data and ports, and waits until it answers.
    pub fn restart(&self) -> Result<()> {
        let number = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://{}", loopback(self.client));
        let peer = format!("http://{}", loopback(self.peer));
        let mut command = Command::new("etcd");
        command.args(["--name", "one", "--logger", "zap", "--data-dir"]).arg(self.folder.join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("one={peer}")]);
        if let Some(TlsFiles { ca, cert, key }) = &self.tls {
            command.arg("--cert-file").arg(cert).arg("--key-file").arg(key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(ca);
        }
        let log = self.folder.join(format!("etcd-{number}.log"));
        let process = Process::start("etcd", command, log)
            .context("etcd is missing: `tests/setup.sh --test` installs it")?;
        process.wait_until("a linearizable read", READY_DEADLINE, || {
            self.ctl(&["get", "ready"], "").map(drop)
        })?;
        *self.process() = Some(process);
        Ok(())
    }

    /// Its process's number.
    pub fn pid(&self) -> Result<i32> {
        self.process().as_ref().map(Process::pid).context("etcd is not running")
    }

    /// Kills it as a crash does.
    pub fn kill(&self) -> Result<()> {
        let process = self.process().take().context("etcd is not running")?;
        process.kill().map(drop)
    }

    /// Forgets everything, as the next start sees it; only while it is killed.
    pub fn forget(&self) -> Result<()> {
        let data = self.folder.join("data");
        std::fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))
    }

    /// Writes one key, whatever its value is.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        match value {
            // Without any input, etcdctl asks for the argument.
            "" => self.ctl(&["put", key, ""], ""),
            _ => self.ctl(&["put", key], value),
        }
        .map(drop)
    }

    /// Forgets all revisions before the present one; which that is.
    pub fn compact(&self) -> Result<u64> {
        let answer: serde_json::Value = serde_json::from_str(&self.ctl(&["get", "x", "-w", "json"], "")?)?;
        let revision = answer["header"]["revision"].as_u64().context("no revision")?;
        self.ctl(&["compact", &revision.to_string()], "")?;
        Ok(revision)
    }

    /// Command, status and end of log.
    pub fn report(&self) -> String {
        self.process().as_ref().map_or_else(|| "--- etcd: killed".to_owned(), Process::report)
    }

    fn ctl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint(), "--dial-timeout", "2s"]);
        if let Some(TlsFiles { ca, cert, key }) = &self.tls {
            command.arg("--cacert").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        }
        if self.asks_who.load(Ordering::Relaxed) {
            command.args(["--user", &format!("root:{PASSWORD}")]);
        }
        command.args(["--command-timeout", "5s"]).args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("etcdctl is missing: `tests/setup.sh --test` installs it")?;
        child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
