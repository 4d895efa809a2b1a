//! The two servers that are compared: our library's example, and go-control-plane. Both take the number of clusters as
//! their argument, print where they listen, and follow orders on stdin (see `xds-server/examples/raw_resources.rs`).

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};

use crate::{
    toolbox::Toolbox,
    usage::{cpu_time_of, resident_of},
};

/// What can be started.
#[derive(Debug, Clone)]
pub(super) struct Contender {
    pub name: &'static str,
    binary: PathBuf,
    /// Whether a changed cluster's endpoints are sent again, which Envoy waits for.
    pub resends_endpoints: bool,
}

impl Contender {
    /// Ours, as `make bench` builds it.
    pub(super) fn ours(toolbox: &Toolbox) -> Result<Self> {
        let binary = toolbox.binary("examples/raw_resources")?;
        Ok(Self { name: "Tollgate", binary, resends_endpoints: true })
    }

    /// Builds the peer; the error says why that can't be.
    pub(super) fn peer(toolbox: &Toolbox) -> Result<Self> {
        let source = toolbox.repository.join("tests/bench/go-control-plane");
        let binary = toolbox.repository.join("target/bench/go-control-plane");
        let mut go = Command::new("go");
        let built = go.arg("build").arg("-o").arg(&binary).current_dir(&source).output();
        let built = built.context("there is no `go`")?;
        if !built.status.success() {
            bail!("go build failed in {}: {}", source.display(), String::from_utf8_lossy(&built.stderr));
        }
        Ok(Self { name: "go-control-plane", binary, resends_endpoints: false })
    }

    pub(super) fn start(&self, clusters: usize) -> Result<Server> {
        let mut command = Command::new(&self.binary);
        command.arg(clusters.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {}", self.binary.display()))?;
        let orders = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut pipes = Pipes { orders, answers };
        let address = pipes.answer("listening");
        let mut server = Server { child, pipes: Arc::new(Mutex::new(pipes)), address: ([0; 4], 0).into() };
        server.address = address?[0].parse().context("no address")?;
        Ok(server)
    }
}

/// A started server. Ends when dropped, and with us.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pipes: Arc<Mutex<Pipes>>,
    pub address: SocketAddr,
}

#[derive(Debug)]
struct Pipes {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// One cluster, changed.
#[derive(Debug)]
pub(super) struct Change {
    pub cluster: String,
    /// Where the publisher's call began.
    pub started: SystemTime,
    /// What the publisher's call took.
    pub took: Duration,
}

impl Server {
    /// Has one cluster changed. Waits for the answer in a thread, so that the load goes on.
    pub(super) async fn change(&self) -> Result<Change> {
        let pipes = self.pipes.clone();
        let order = move || {
            let mut pipes = pipes.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(pipes.orders, "change")?;
            let words = pipes.answer("changed")?;
            let [cluster, started, took] = &words[..] else { bail!("a strange answer: {words:?}") };
            Ok(Change {
                cluster: cluster.clone(),
                started: SystemTime::UNIX_EPOCH + Duration::from_nanos(started.parse()?),
                took: Duration::from_nanos(took.parse()?),
            })
        };
        tokio::task::spawn_blocking(order).await?
    }

    /// Resident memory in bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        resident_of(i32::try_from(self.child.id())?)
    }

    /// Processor time so far.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        cpu_time_of(i32::try_from(self.child.id())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}

impl Pipes {
    /// The words behind `first` on the next line.
    fn answer(&mut self, first: &str) -> Result<Vec<String>> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        if words.next().as_deref() != Some(first) {
            bail!("the server said {line:?} where {first:?} was due");
        }
        Ok(words.collect())
    }
}
