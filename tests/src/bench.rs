//! `make bench`: how fast an edit arrives, what the filters cost, and what many proxies cost the xDS engine. Prints Markdown, to be pasted as it is.

use std::fs;

use anyhow::Result;
use clap::Parser;

use crate::toolbox::Toolbox;

mod edits;
mod generator;
mod native;
mod throughput;
mod tokens;
mod xds;

/// Measure how fast an edit of the YAML arrives at the edge, what the filters cost, and what serving many proxies costs
/// beside go-control-plane, and print it as Markdown.
///
/// Everything is started here, on free ports; close what else keeps the machine busy. What is compared runs in
/// interleaved rounds, and medians are shown.
#[derive(Debug, Clone, Parser)]
#[command(name = "tollgate-bench", version)]
pub struct Args {
    /// Edits of the YAML to time; 0 leaves that table out
    #[arg(long, default_value_t = 100, env = "TOLLGATE_BENCH_EDITS")]
    pub(crate) edits: usize,
    /// Rounds of load over all variants; 0 leaves that table out
    #[arg(long, default_value_t = 5, env = "TOLLGATE_BENCH_ROUNDS")]
    pub(crate) rounds: usize,
    /// Seconds of load for each variant in a round
    #[arg(long, default_value_t = 2, env = "TOLLGATE_BENCH_SECONDS")]
    pub(crate) seconds: u64,
    /// Keep-alive connections of the load
    #[arg(long, default_value_t = 32, env = "TOLLGATE_BENCH_CONNECTIONS")]
    pub(crate) connections: u32,
    /// The xDS tables
    #[command(flatten)]
    pub(crate) xds: xds::Args,
}

/// Measures and prints.
pub fn run(args: &Args) -> Result<()> {
    let toolbox = Toolbox::find()?;
    println!("Measured with `make bench` on {}.\n", machine(&toolbox));
    if args.edits > 0 {
        println!("{}", edits::measure(args)?);
    }
    if args.rounds > 0 {
        println!("{}", throughput::measure(args, &toolbox)?);
    }
    for table in xds::measure(&args.xds, &toolbox)? {
        println!("{table}");
    }
    Ok(())
}

/// What the figures depend on. Facts that cannot be read are left out.
fn machine(toolbox: &Toolbox) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field(&read("/proc/cpuinfo"), "model name");
    let kernel = Some(format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()));
    let envoy = crate::envoy::version(toolbox).map(|version| format!("Envoy {version}")).ok();
    let facts = [Some(format!("{cores} cores")), model, kernel, envoy];
    facts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The middle of the values; zero where there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    crate::load::percentile(&values, 0.5)
}
