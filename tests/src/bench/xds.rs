//! What serving many proxies costs: our library beside go-control-plane, in the same run and under the same load.
//!
//! Then ours alone: whether a change costs more where there is more that did not change, and whether ten thousand idle
//! streams are held.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::median;
use crate::toolbox::Toolbox;
use load::{Arrival, Seen, Size};
use server::Contender;

mod http2;
mod load;
mod server;
mod wire;

/// Clients where the number of clusters grows.
const FEW: usize = 4;
/// Idle streams on one connection, as a proxy between has them and as Envoys have them, and what they subscribe to.
const IDLE_PER_CONNECTION: [usize; 2] = [100, 1];
const IDLE_CLUSTERS: usize = 100;
/// Descriptors that a process needs beside its connections.
const SPARE_DESCRIPTORS: usize = 200;

/// What to measure of the xDS engine.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Clients x clusters, each with go-control-plane in turn; "none" leaves that table out
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000x1000,200x5000,100x1000",
        env = "TOLLGATE_BENCH_XDS"
    )]
    xds: Vec<String>,
    /// Clusters of which one is changed, for few clients; 0 leaves that table out
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,10000,100000",
        env = "TOLLGATE_BENCH_XDS_GROWTH"
    )]
    xds_growth: Vec<usize>,
    /// Idle streams, on a hundredth as many connections and on one each; 0 leaves that table out
    #[arg(long, default_value_t = 10_000, env = "TOLLGATE_BENCH_XDS_IDLE")]
    xds_idle: usize,
    /// Changes of one cluster at each of these sizes
    #[arg(long, default_value_t = 10, env = "TOLLGATE_BENCH_XDS_CHANGES")]
    xds_changes: usize,
}

impl Args {
    fn compared(&self) -> Result<Vec<(usize, usize)>> {
        let sizes = self.xds.iter().filter(|size| *size != "none").map(|size| {
            let (clients, clusters) = size.split_once('x').context("--xds takes CLIENTSxCLUSTERS")?;
            Ok((clients.parse()?, clusters.parse()?))
        });
        sizes.collect()
    }
}

/// Markdown tables, as they get ready.
pub(super) fn measure(args: &Args, toolbox: &Toolbox) -> Result<Vec<String>> {
    let (sizes, growth) = (args.compared()?, args.xds_growth.iter().filter(|clusters| **clusters > 0));
    let growth: Vec<usize> = growth.copied().collect();
    let mut tables = Vec::new();
    if sizes.is_empty() && growth.is_empty() && args.xds_idle == 0 {
        return Ok(tables);
    }
    let descriptors = raise_descriptor_limit()?;
    let ours = Contender::ours(toolbox)?;
    if !sizes.is_empty() {
        tables.push(compared(args, &sizes, &ours, Contender::peer(toolbox))?);
    }
    if !growth.is_empty() {
        tables.push(grown(args, &growth, &ours)?);
    }
    if args.xds_idle > 0 {
        tables.push(idle(args, &ours, descriptors)?);
    }
    Ok(tables)
}

fn compared(
    args: &Args,
    sizes: &[(usize, usize)],
    ours: &Contender,
    peer: Result<Contender>,
) -> Result<String> {
    let changes = args.xds_changes;
    let mut text = format!(
        "Delta ADS: every client subscribes to all clusters (EDS, 3 endpoints each) and to one route configuration with \
         a route a cluster. Then one cluster is changed, {changes} times; medians. A client has the change once it has all \
         that the server sends of it: Tollgate sends the cluster's endpoints again, for which Envoy waits.\n\n\
         | clients × clusters | | all connected, full state | publisher's call | change at median client | at last client \
         | resident | server's CPU, connecting | server's CPU, a change |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for &(clients, clusters) in sizes {
        let size = Size { clusters, connections: clients, streams_per_connection: 1, changes };
        let ours = Figures::of(run(ours, size)?);
        let _ = writeln!(text, "| {clients} × {clusters} | Tollgate | {} |", ours.cells());
        if let Ok(peer) = &peer {
            let theirs = Figures::of(run(peer, size)?);
            let _ = writeln!(text, "| | {} | {} |", peer.name, theirs.cells());
            let _ = writeln!(text, "| | better by | {} |", theirs.over(&ours));
        }
    }
    if let Err(why) = &peer {
        let _ = writeln!(text, "\nNothing to compare with: {why:#}.");
    }
    Ok(text)
}

fn grown(args: &Args, growth: &[usize], ours: &Contender) -> Result<String> {
    let changes = args.xds_changes;
    let mut text = format!(
        "One cluster of many is changed, for {FEW} clients; medians of {changes} changes:\n\n\
         | clusters | publisher's call | change at last client |\n|---:|---:|---:|\n",
    );
    for &clusters in growth {
        let size = Size { clusters, connections: FEW, streams_per_connection: 1, changes };
        let figures = Figures::of(run(ours, size)?);
        let _ = writeln!(text, "| {clusters} | {} | {} |", time(figures.publish), time(figures.last));
    }
    Ok(text)
}

fn idle(args: &Args, ours: &Contender, descriptors: usize) -> Result<String> {
    let (streams, clusters, changes) = (args.xds_idle, IDLE_CLUSTERS, args.xds_changes);
    let mut text = format!(
        "{streams} idle streams of {clusters} clusters:\n\n\
         | connections | all connected, full state | resident | a stream | change at last stream |\n\
         |---:|---:|---:|---:|---:|\n"
    );
    for streams_per_connection in IDLE_PER_CONNECTION {
        let connections = streams.div_ceil(streams_per_connection);
        if connections > descriptors.saturating_sub(SPARE_DESCRIPTORS) {
            let _ = writeln!(text, "| {connections} | only {descriptors} files may be open here | | | |");
            continue;
        }
        let size = Size { clusters, connections, streams_per_connection, changes };
        let figures = Figures::of(run(ours, size)?);
        let of_one = figures.resident / 1024.0 / (connections * streams_per_connection) as f64;
        let (all, resident) = (time(figures.connected), mebibytes(figures.resident));
        let last = time(figures.last);
        let _ = writeln!(text, "| {connections} | {all} | {resident} | {of_one:.1} KiB | {last} |");
    }
    Ok(text)
}

fn run(contender: &Contender, size: Size) -> Result<Seen> {
    let clients = size.connections * size.streams_per_connection;
    eprintln!("{}: {clients} clients of {} clusters", contender.name, size.clusters);
    load::run(contender, size)
}

/// Seconds and bytes.
struct Figures {
    connected: f64,
    publish: f64,
    median: f64,
    last: f64,
    resident: f64,
    /// Processor time of the server: what other processes on the machine do not blur.
    connecting_cpu: f64,
    change_cpu: f64,
}

impl Figures {
    fn of(seen: Seen) -> Self {
        let middle = |what: fn(&Arrival) -> Duration| {
            median(seen.changes.iter().map(|arrival| what(arrival).as_secs_f64()).collect())
        };
        Self {
            connected: seen.connected.as_secs_f64(),
            publish: middle(|arrival| arrival.publish),
            median: middle(|arrival| arrival.median),
            last: middle(|arrival| arrival.last),
            resident: seen.resident as f64,
            connecting_cpu: seen.connecting_cpu.as_secs_f64(),
            change_cpu: seen.change_cpu.as_secs_f64(),
        }
    }

    fn cells(&self) -> String {
        let times = [self.connected, self.publish, self.median, self.last].map(time).join(" | ");
        let cpu = [self.connecting_cpu, self.change_cpu].map(time).join(" | ");
        format!("{times} | {} | {cpu}", mebibytes(self.resident))
    }

    fn over(&self, other: &Self) -> String {
        let ratios = [
            self.connected / other.connected,
            self.publish / other.publish,
            self.median / other.median,
            self.last / other.last,
            self.resident / other.resident,
            self.connecting_cpu / other.connecting_cpu,
            self.change_cpu / other.change_cpu,
        ];
        ratios.map(|ratio| format!("{ratio:.1} times")).join(" | ")
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        0.01.. => format!("{:.0} ms", seconds * 1e3),
        0.001.. => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.0} µs", seconds * 1e6),
    }
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

/// A thousand clients are more descriptors than shells allow; the servers inherit what is set here. Says what it is.
fn raise_descriptor_limit() -> Result<usize> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")?;
    Ok(limit.current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
}
