//! What the filters cost: the same requests through Envoy without them, with each, and with both; and beside them, what
//! Envoy's own filters for the same jobs cost.
//!
//! The variants take turns within each round, and each is compared with the bare Envoy of its own round, so that a
//! machine that gets slower or faster does so for all of them.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::{Args, generator::Generator, median, native::Native};
use crate::{
    gateway::Gateway, ports, stack::Proxy, toolbox::Toolbox, upstream::Upstream, usage::cpu_time_of,
};

/// A bearer token, HS256 with [`KEY`], for issuer `https://bench.test` and audience `api`, until the year 2100.
pub(super) const AUTHORIZATION: &str = "Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6ImJlbmNoIn0.\
    eyJpc3MiOiJodHRwczovL2JlbmNoLnRlc3QiLCJhdWQiOiJhcGkiLCJzdWIiOiJiZW5jaCIsImV4cCI6NDEwMjQ0NDgwMH0.\
    OMDuTDB85QRK4R1EPRcTMVs846gahH0EzK1qKzuvukg";
/// The key of that token, as a JSON Web Key writes it.
pub(super) const KEY: &str = "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw";

/// One way through Envoy, and what was measured on it.
struct Variant {
    name: &'static str,
    port: u16,
    /// The Envoy whose processor time counts.
    pid: i32,
    headers: &'static [(&'static str, &'static str)],
    per_second: Vec<f64>,
    ratios: Vec<f64>,
    cpu_micros: Vec<f64>,
}

impl Variant {
    fn new(
        name: &'static str,
        port: u16,
        pid: i32,
        headers: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { name, port, pid, headers, per_second: Vec::new(), ratios: Vec::new(), cpu_micros: Vec::new() }
    }
}

/// Markdown with the medians.
pub(super) fn measure(args: &Args, toolbox: &Toolbox) -> Result<String> {
    const TOKEN: &[(&str, &str)] = &[("authorization", AUTHORIZATION)];
    let upstream = Upstream::start_silent("bench")?;
    let native = Native::start(toolbox, &upstream)?;
    let [plain, auth, limit, both, quiet] = [(); 5].map(|()| ports::free());
    let [plain, auth, limit, both, quiet] = [plain?, auth?, limit?, both?, quiet?];
    let yaml = yaml(&upstream, [plain, auth, limit, both, quiet]);
    let gateway = Gateway::single_worker("bench-throughput", |_| yaml)?;
    let filtered = gateway.pid(Proxy::Edge).context("the edge is not running")?;
    let mut variants = [
        Variant::new("bare Envoy", native.bare, native.pid(), &[]),
        Variant::new("a gateway without policies", plain, filtered, &[]),
        Variant::new("with auth (a token seen before)", auth, filtered, TOKEN),
        Variant::new("with rate limit", limit, filtered, &[]),
        Variant::new("with both", both, filtered, TOKEN),
        Variant::new("with both, quota told on 429 only", quiet, filtered, TOKEN),
        Variant::new("Envoy's jwt_authn (checks the token each time)", native.jwt_authn, native.pid(), TOKEN),
        Variant::new(
            "Envoy's local_ratelimit (one bucket for all)",
            native.local_ratelimit,
            native.pid(),
            &[],
        ),
        Variant::new("Envoy's jwt_authn and local_ratelimit", native.both, native.pid(), TOKEN),
    ];
    let generator = Generator::find();
    // The first round warms up: connections, caches, the compiler of the VM.
    for round in 0..=args.rounds {
        eprintln!("round {round} of {}{}", args.rounds, if round == 0 { " (warm-up)" } else { "" });
        let mut bare = None;
        for variant in &mut variants {
            let before = cpu_time_of(variant.pid)?;
            let per_second = generator.requests_per_second(args, variant.port, variant.headers);
            let per_second = per_second.with_context(|| format!("{}\n{}", variant.name, gateway.report()))?;
            let cpu = cpu_time_of(variant.pid)? - before;
            let ratio = per_second / *bare.get_or_insert(per_second);
            if round > 0 {
                variant.per_second.push(per_second);
                variant.ratios.push(ratio);
                variant.cpu_micros.push(cpu.as_secs_f64() * 1e6 / (per_second * args.seconds as f64));
            }
        }
    }
    Ok(table(args, generator, variants))
}

fn table(args: &Args, generator: Generator, variants: [Variant; 9]) -> String {
    let mut text = format!(
        "Requests through one Envoy worker to a loopback upstream, from {} on {} connections; medians of {} interleaved \
         rounds of {} s:\n\n| | requests/s | ratio to bare | Envoy CPU a request |\n|---|---:|---:|---:|\n",
        generator.name(),
        args.connections,
        args.rounds,
        args.seconds
    );
    for variant in variants {
        let [per_second, ratio, cpu] = [variant.per_second, variant.ratios, variant.cpu_micros].map(median);
        let _ = writeln!(text, "| {} | {per_second:.0} | {ratio:.2} | {cpu:.1} µs |", variant.name);
    }
    text
}

/// Five listeners of one Envoy that differ in their policies only. The limit is one that is never reached.
fn yaml(upstream: &Upstream, [plain, auth, limit, both, quiet]: [u16; 5]) -> String {
    let listener = |name: &str, port: u16, policies: &str| {
        format!(
            "  {name}:\n    address: 127.0.0.1:{port}\n    virtual_hosts:\n      - name: bench\n        hosts: [\"*\"]\n        \
             policies: {{ {policies} }}\n        routes: [{{ match: {{ path: {{ prefix: / }} }}, to: bench }}]\n"
        )
    };
    format!(
        "version: v1\nproxies: {{ edge: {{ listeners: [plain, auth, limit, both, quiet] }} }}\nlisteners:\n{}{}{}{}{}clusters:\n  \
         bench: {{ endpoints: [\"{}\"] }}\npolicies:\n  auth:\n    tokens: {{ any_of: [{{ jwt: {{ issuer: \
         https://bench.test, audiences: [api], algorithms: [HS256], jwks: {{ inline: {{ keys: [{{ kty: oct, kid: bench, \
         alg: HS256, k: {KEY} }}] }} }} }} }}] }}\n  rate_limit:\n    high: {{ key: [consumer], limit: 10000000/s, burst: 10000000 }}\n    \
         quiet: {{ key: [consumer], limit: 10000000/s, burst: 10000000, headers: limited }}\n",
        listener("plain", plain, ""),
        listener("auth", auth, "auth: tokens"),
        listener("limit", limit, "rate_limit: high"),
        listener("both", both, "auth: tokens, rate_limit: high"),
        listener("quiet", quiet, "auth: tokens, rate_limit: quiet"),
        upstream.address(),
    )
}
