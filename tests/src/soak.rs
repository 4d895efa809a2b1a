//! `make soak`: random edits for an hour, under load and with a slow proxy, to see that memory stays flat and no request
//! fails. Prints a line a minute as Markdown, and ends with 1 where something grew or failed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::{
    gateway::Gateway,
    load::Load,
    random_gateway::{Configuration, PATHS, Random},
    slow_link::SlowLink,
    stack::{AnotherEdge, Proxy},
    upstream::Upstream,
    usage::resident_of,
};

/// What the median of the last third may be above that of the middle one: allocators breathe.
const GROWTH: f64 = 1.10;
const SLACK: u64 = 4 << 20;

/// Edit a gateway at random for a long time, under load, and watch the memory of xds-server and Envoy.
#[derive(Debug, Clone, Parser)]
#[command(name = "tollgate-soak", version)]
pub struct Args {
    /// How long, in minutes
    #[arg(long, default_value_t = 60, env = "TOLLGATE_SOAK_MINUTES")]
    minutes: u64,
    /// Requests per second
    #[arg(long, default_value_t = 100.0, env = "TOLLGATE_SOAK_RATE")]
    rate: f64,
    /// Seed of the edits
    #[arg(long, default_value_t = 1, env = "TOLLGATE_SOAK_SEED")]
    seed: u64,
}

/// Soaks, and prints.
///
/// # Errors
/// When a server fails, a request fails, or memory grows.
pub fn run(args: &Args) -> Result<()> {
    let [a, b] = [Upstream::start("a")?, Upstream::start("b")?];
    let upstreams = [a.address(), b.address()];
    let mut configuration = Configuration::new(Random(args.seed.max(1)));
    let gateway = Gateway::edge_only("soak", |ports| configuration.text(ports, upstreams))?;
    let ports = *gateway.ports();
    let slow = SlowLink::to(ports.xds_grpc, Duration::from_millis(30))?;
    gateway.add_edge(&AnotherEdge { id: "edge-2", labels: &[], xds_port: slow.port() })?;
    let mut load = Load::on(ports.edge).connections(8).rate(args.rate);
    for path in PATHS {
        load = load.get(path, &[]);
    }
    let load = load.start();

    println!(
        "Random edits for {} min, seed {}, {} requests/s on two Envoys, one of them slow:\n",
        args.minutes, args.seed, args.rate
    );
    println!("| minute | edits | requests | xds-server MiB | Envoy MiB |\n|---:|---:|---:|---:|---:|");
    let (started, mut edits, mut samples) = (Instant::now(), 0u64, Vec::new());
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    while started.elapsed() < Duration::from_secs(args.minutes * 60) {
        configuration.edit();
        let text = configuration.text(&ports, upstreams);
        gateway.edit(|_| text)?;
        edits += 1;
        // As fast as files settle and Envoys follow, and sometimes faster.
        load.wait_for((args.rate * if edits.is_multiple_of(5) { 0.05 } else { 0.4 }) as u64)?;
        let minute = started.elapsed().as_secs() / 60;
        if samples.len() as u64 <= minute {
            let (server, envoy) = (
                resident_of(gateway.xds_pid()?)?,
                resident_of(gateway.pid(Proxy::Edge).context("no edge")?)?,
            );
            println!(
                "| {minute} | {edits} | {} | {:.1} | {:.1} |",
                load.completed(),
                mib(server),
                mib(envoy)
            );
            samples.push(server);
        }
    }
    let report = load.stop()?;
    println!("\n{report}");
    if report.failures() > 0 {
        bail!("{} requests failed", report.failures());
    }
    let third = samples.len() / 3;
    let [middle, last] = [&samples[third..2 * third], &samples[2 * third..]].map(median);
    println!("xds-server: {:.1} MiB in the middle third, {:.1} MiB in the last", mib(middle), mib(last));
    if last as f64 > middle as f64 * GROWTH + SLACK as f64 {
        bail!("xds-server's memory grows");
    }
    Ok(())
}

fn median(samples: &[u64]) -> u64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}
