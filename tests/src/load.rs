//! A steady load: a number of keep-alive connections, as fast as they get answers or at a fixed rate, and an account
//! of every request that failed.
//!
//! Nothing is retried. A connection that the server has closed *between* two requests is opened again, as any client
//! would; one that breaks under a request is a failure.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{task::JoinHandle, time};

use crate::{ports::loopback, runtime::runtime, wait};

pub(crate) use connection::Connection;
pub use report::{Report, percentile};

mod connection;
mod report;

/// How long an answer may take before its request counts as failed.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// What to send, and how fast.
#[derive(Debug, Clone)]
pub struct Load {
    address: SocketAddr,
    requests: Vec<Target>,
    connections: u32,
    rate: Option<f64>,
}

/// One request of the load; only 200 counts as success.
#[derive(Debug, Clone)]
struct Target {
    path: String,
    headers: Vec<(&'static str, String)>,
}

impl Load {
    /// Load on a loopback port: one connection, as fast as answers come, until told otherwise.
    pub fn on(port: u16) -> Self {
        Self { address: loopback(port), requests: Vec::new(), connections: 1, rate: None }
    }

    /// Adds a request; the connections go through all of them in turn.
    pub fn get(mut self, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.requests.push(Target { path: path.to_owned(), headers });
        self
    }

    /// Sets the number of connections.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// Sets a fixed rate, in requests per second over all connections. A late answer does not slow the load down: what
    /// it delayed is sent at once after it.
    pub fn rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Starts it.
    pub fn start(self) -> RunningLoad {
        let stop = Arc::new(AtomicBool::new(false));
        let completed = Arc::new(AtomicU64::new(0));
        let load = Arc::new(self);
        let workers = (0..load.connections).map(|number| {
            let worker =
                Worker { load: load.clone(), number, stop: stop.clone(), completed: completed.clone() };
            runtime().spawn(worker.run())
        });
        RunningLoad { workers: workers.collect(), stop: stop.clone(), completed, started: Instant::now() }
    }

    /// Runs it for a time.
    pub fn run_for(self, time: Duration) -> Result<Report> {
        let running = self.start();
        runtime().block_on(async { time::sleep(time).await });
        running.stop()
    }
}

/// A load that is under way.
#[derive(Debug)]
pub struct RunningLoad {
    workers: Vec<JoinHandle<Report>>,
    stop: Arc<AtomicBool>,
    completed: Arc<AtomicU64>,
    started: Instant,
}

impl RunningLoad {
    /// Requests answered so far, well or badly.
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were answered.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let goal = self.completed() + more;
        let what = format!("{more} more requests of the load");
        wait::wait_until(&what, Duration::from_secs(30), || wait::holds(self.completed() >= goal))
    }

    /// Lets the requests under way end, and gives the account of all.
    pub fn stop(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Report::default();
        for worker in self.workers.drain(..) {
            total.merge(runtime().block_on(worker).context("a load worker panicked")?);
        }
        total.finish(self.started.elapsed());
        Ok(total)
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One connection's share of the load.
struct Worker {
    load: Arc<Load>,
    number: u32,
    stop: Arc<AtomicBool>,
    completed: Arc<AtomicU64>,
}

impl Worker {
    async fn run(self) -> Report {
        let mut report = Report::default();
        let mut connection = Connection::new(self.load.address);
        let mut due = Instant::now()
            + self.gap().map_or(Duration::ZERO, |gap| gap * self.number / self.load.connections);
        let mut targets = self.load.requests.iter().cycle().skip(self.number as usize);
        while !self.stop.load(Ordering::Relaxed) {
            let Some(target) = targets.next() else { break };
            time::sleep_until(due.into()).await;
            let answer = time::timeout(ANSWER_DEADLINE, connection.get(&target.path, &target.headers)).await;
            match answer {
                Ok(Ok(())) => report.success(due.elapsed()),
                Ok(Err(reason)) => report.failure(&target.path, &reason),
                Err(_) => {
                    connection = Connection::new(self.load.address);
                    report.failure(&target.path, &format!("no answer within {ANSWER_DEADLINE:?}"));
                }
            }
            self.completed.fetch_add(1, Ordering::Relaxed);
            due = self.gap().map_or_else(Instant::now, |gap| due + gap);
        }
        report
    }

    /// Time between two requests of this connection at a fixed rate.
    fn gap(&self) -> Option<Duration> {
        self.load.rate.map(|rate| Duration::from_secs_f64(f64::from(self.load.connections) / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ports, upstream::Upstream};

    #[test]
    fn a_fixed_rate_is_kept() {
        let upstream = Upstream::start("load").unwrap();
        let load = Load::on(upstream.address().port()).get("/", &[]).connections(4).rate(200.0);
        let report = load.run_for(Duration::from_millis(500)).unwrap();
        assert_eq!(report.failures(), 0, "{report}");
        assert!((60..=110).contains(&report.requests()), "{report}");
    }

    #[test]
    fn every_failure_is_counted_with_its_reason() {
        let load = Load::on(ports::free().unwrap()).get("/a", &[]).rate(100.0);
        let running = load.start();
        running.wait_for(5).unwrap();
        let report = running.stop().unwrap();
        assert_eq!(report.failures(), report.requests());
        assert!(report.to_string().contains("/a: connecting: "), "{report}");
    }
}
