//! What the filters cost: the same requests through Envoy without them, with each, and with both.
//!
//! The variants take turns within each round, and each is compared with the bare Envoy of its own round, so that a
//! machine that gets slower or faster does so for all of them.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::{Args, generator::Generator, median};
use crate::{
    envoy,
    gateway::{EFFECT_DEADLINE, Gateway},
    ports,
    process::Process,
    stack::{Proxy, write},
    toolbox::Toolbox,
    upstream::Upstream,
    usage::cpu_time_of,
    work_dir,
};

/// A bearer token, HS256 with [`KEY`], for issuer `https://bench.test` and audience `api`, until the year 2100.
const AUTHORIZATION: &str = "Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6ImJlbmNoIn0.\
    eyJpc3MiOiJodHRwczovL2JlbmNoLnRlc3QiLCJhdWQiOiJhcGkiLCJzdWIiOiJiZW5jaCIsImV4cCI6NDEwMjQ0NDgwMH0.\
    OMDuTDB85QRK4R1EPRcTMVs846gahH0EzK1qKzuvukg";
/// The key of that token, as a JSON Web Key writes it.
const KEY: &str = "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw";

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
    let (bare, bare_port) = start_bare(toolbox, &upstream)?;
    let [plain, auth, limit, both] = [ports::free()?, ports::free()?, ports::free()?, ports::free()?];
    let yaml = yaml(&upstream, [plain, auth, limit, both]);
    let gateway = Gateway::single_worker("bench-throughput", |_| yaml)?;
    let filtered = gateway.pid(Proxy::Edge).context("the edge is not running")?;
    let mut variants = [
        Variant::new("bare Envoy", bare_port, bare.pid(), &[]),
        Variant::new("a gateway without policies", plain, filtered, &[]),
        Variant::new("with auth (a token seen before)", auth, filtered, TOKEN),
        Variant::new("with rate limit", limit, filtered, &[]),
        Variant::new("with both", both, filtered, TOKEN),
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

fn table(args: &Args, generator: Generator, variants: [Variant; 5]) -> String {
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

/// A stock Envoy with a static configuration: what the gateway is compared with.
fn start_bare(toolbox: &Toolbox, upstream: &Upstream) -> Result<(Process, u16)> {
    let folder = work_dir::new("bench-bare")?;
    let (port, admin) = (ports::free()?, ports::free()?);
    let bootstrap = folder.join("bare.yaml");
    write(&bootstrap, &bare_bootstrap(port, admin, upstream.address().port()))?;
    let process =
        Process::start("bare Envoy", envoy::serve(toolbox, &bootstrap, 1), folder.join("bare.log"))?;
    process.wait_until("being ready", EFFECT_DEADLINE, || envoy::ready(admin))?;
    Ok((process, port))
}

fn bare_bootstrap(port: u16, admin: u16, upstream: u16) -> String {
    const HTTP: &str = "envoy.extensions.filters";
    let address = |port| format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let router = format!("{{ \"@type\": type.googleapis.com/{HTTP}.http.router.v3.Router }}");
    let routes = "{ virtual_hosts: [{ name: bare, domains: [\"*\"], routes: [{ match: { prefix: / }, \
                  route: { cluster: upstream } }] }] }";
    let manager = format!(
        "{{ \"@type\": type.googleapis.com/{HTTP}.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: bare, normalize_path: true, merge_slashes: true, route_config: {routes}, \
         http_filters: [{{ name: router, typed_config: {router} }}] }}"
    );
    format!(
        "admin: {{ address: {} }}\nstatic_resources:\n  listeners:\n    - name: bare\n      address: {}\n      \
         filter_chains: [{{ filters: [{{ name: http, typed_config: {manager} }}] }}]\n  clusters:\n    - name: upstream\n      \
         type: STATIC\n      load_assignment: {{ cluster_name: upstream, endpoints: [{{ lb_endpoints: [{{ endpoint: \
         {{ address: {} }} }}] }}] }}\n",
        address(admin),
        address(port),
        address(upstream)
    )
}

/// Four listeners of one Envoy that differ in their policies only. The limit is one that is never reached.
fn yaml(upstream: &Upstream, [plain, auth, limit, both]: [u16; 4]) -> String {
    let listener = |name: &str, port: u16, policies: &str| {
        format!(
            "  {name}:\n    address: 127.0.0.1:{port}\n    virtual_hosts:\n      - name: bench\n        hosts: [\"*\"]\n        \
             policies: {{ {policies} }}\n        routes: [{{ match: {{ path: {{ prefix: / }} }}, to: bench }}]\n"
        )
    };
    format!(
        "version: v1\nproxies: {{ edge: {{ listeners: [plain, auth, limit, both] }} }}\nlisteners:\n{}{}{}{}clusters:\n  \
         bench: {{ endpoints: [\"{}\"] }}\npolicies:\n  auth:\n    tokens: {{ any_of: [{{ jwt: {{ issuer: \
         https://bench.test, audiences: [api], algorithms: [HS256], jwks: {{ inline: {{ keys: [{{ kty: oct, kid: bench, \
         alg: HS256, k: {KEY} }}] }} }} }} }}] }}\n  rate_limit:\n    high: {{ key: [consumer], limit: 10000000/s, burst: 10000000 }}\n",
        listener("plain", plain, ""),
        listener("auth", auth, "auth: tokens"),
        listener("limit", limit, "rate_limit: high"),
        listener("both", both, "auth: tokens, rate_limit: high"),
        upstream.address(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Load;

    #[test]
    fn the_bare_envoy_serves() {
        let upstream = Upstream::start_silent("bare").unwrap();
        let (envoy, port) = start_bare(&Toolbox::find().unwrap(), &upstream).unwrap();
        let running = Load::on(port).get("/", &[]).connections(2).start();
        running.wait_for(100).unwrap();
        let report = running.stop().unwrap();
        assert_eq!(report.failures(), 0, "{report}\n{}", envoy.report());
    }
}
