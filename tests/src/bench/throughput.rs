//! What the filters cost: the same requests through Envoy without them, with each, and with both; and beside them, what
//! Envoy's own filters for the same jobs cost.
//!
//! The variants take turns within each round, and each is compared with the bare Envoy of its own round, so that a
//! machine that gets slower or faster does so for all of them.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::{Args, generator::Generator, median, native::Native, tokens::Tokens};
use crate::{
    gateway::Gateway, http_client::Client, ports, redis, stack::Proxy, toolbox::Toolbox, upstream::Upstream,
    usage::cpu_time_of,
};

/// A bearer token, HS256 with [`KEY`], for issuer `https://bench.test` and audience `api`, until the year 2100.
pub(super) const AUTHORIZATION: &str = "Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6ImJlbmNoIn0.\
    eyJpc3MiOiJodHRwczovL2JlbmNoLnRlc3QiLCJhdWQiOiJhcGkiLCJzdWIiOiJiZW5jaCIsImV4cCI6NDEwMjQ0NDgwMH0.\
    OMDuTDB85QRK4R1EPRcTMVs846gahH0EzK1qKzuvukg";
/// The key of that token, as a JSON Web Key writes it.
pub(super) const KEY: &str = "YSBzZWNyZXQgb2YgYXQgbGVhc3QgdGhpcnR5LXR3byBieXRlcw";

/// The listeners of our edge, by what they do.
const LISTENERS: [&str; 7] = ["plain", "auth", "limit", "both", "quiet", "shared", "fresh"];
/// The same with native filters.
const NATIVE: [&str; 6] =
    ["native-plain", "native-auth", "native-both", "native-quiet", "native-shared", "native-fresh"];

/// One way through Envoy, and what was measured on it.
struct Variant<'a> {
    name: &'static str,
    port: u16,
    /// The Envoy whose processor time counts.
    pid: i32,
    sends: Sends<'a>,
    per_second: Vec<f64>,
    ratios: Vec<f64>,
    cpu_micros: Vec<f64>,
}

/// What the requests bring.
enum Sends<'a> {
    Nothing,
    /// The same token each.
    OneToken,
    /// A token that was not seen before.
    NewTokens(&'a Tokens),
}

impl<'a> Variant<'a> {
    fn new(name: &'static str, (port, pid): (u16, i32), sends: Sends<'a>) -> Self {
        Self { name, port, pid, sends, per_second: Vec::new(), ratios: Vec::new(), cpu_micros: Vec::new() }
    }
}

/// Markdown with the medians.
pub(super) fn measure(args: &Args, toolbox: &Toolbox) -> Result<String> {
    let upstream = Upstream::start_silent("bench")?;
    let tokens = Tokens::mint()?;
    let redis = redis::Server::in_memory()?;
    let ports = [(); LISTENERS.len() + NATIVE.len()].map(|()| ports::free());
    let ports = ports.into_iter().collect::<Result<Vec<u16>>>()?;
    let yaml = yaml(&upstream, &ports, &tokens);
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let gateway = Gateway::edge_only_on(
        "bench-throughput",
        |stack| {
            stack.concurrency = 1;
            stack.xds_arguments = ["--quota-redis", &url].map(str::to_owned).to_vec();
            Ok(())
        },
        |_| yaml,
    )?;
    let native = Native::start(toolbox, &upstream, gateway.ports().xds_quota, &tokens)?;
    let filtered = gateway.pid(Proxy::Edge).context("the edge is not running")?;
    let (wasm, compiled) = ports.split_at(LISTENERS.len());
    let (
        [plain, auth, limit, both, quiet, shared, fresh],
        [n_plain, n_auth, n_both, n_quiet, n_shared, n_fresh],
    ) = (wasm, compiled)
    else {
        anyhow::bail!("there is a port for each listener");
    };
    let (ours, theirs) = (|port: &u16| (*port, filtered), |port: u16| (port, native.pid()));
    let mut variants = [
        Variant::new("bare Envoy", theirs(native.bare), Sends::Nothing),
        Variant::new("a gateway without policies", ours(plain), Sends::Nothing),
        Variant::new("with auth (a token seen before)", ours(auth), Sends::OneToken),
        Variant::new("with rate limit", ours(limit), Sends::Nothing),
        Variant::new("with both", ours(both), Sends::OneToken),
        Variant::new("with both, quota told on 429 only", ours(quiet), Sends::OneToken),
        Variant::new("the same, the limit shared by all Envoys (Redis)", ours(shared), Sends::OneToken),
        Variant::new("with auth (RS256, tokens never seen before)", ours(fresh), Sends::NewTokens(&tokens)),
        Variant::new("native: a gateway without policies", ours(n_plain), Sends::Nothing),
        Variant::new("native: with auth (a token seen before)", ours(n_auth), Sends::OneToken),
        Variant::new("native: with both", ours(n_both), Sends::OneToken),
        Variant::new("native: with both, quota told on 429 only", ours(n_quiet), Sends::OneToken),
        Variant::new(
            "native: the same, the limit shared by all Envoys (Redis)",
            ours(n_shared),
            Sends::OneToken,
        ),
        Variant::new(
            "native: with auth (RS256, tokens never seen before)",
            ours(n_fresh),
            Sends::NewTokens(&tokens),
        ),
        Variant::new(
            "Envoy's jwt_authn (checks the token each time)",
            theirs(native.jwt_authn),
            Sends::OneToken,
        ),
        Variant::new("Envoy's jwt_authn (RS256)", theirs(native.fresh), Sends::NewTokens(&tokens)),
        Variant::new(
            "Envoy's local_ratelimit (one bucket for all)",
            theirs(native.local_ratelimit),
            Sends::Nothing,
        ),
        Variant::new("Envoy's jwt_authn and local_ratelimit", theirs(native.both), Sends::OneToken),
        Variant::new(
            "Envoy's jwt_authn and ratelimit (a call for each request, same service and Redis)",
            theirs(native.shared),
            Sends::OneToken,
        ),
    ];
    let generator = Generator::find();
    let mut served = 0.0;
    let calls_before = quota_calls(&gateway)?;
    // The first round warms up: connections, caches, the compiler of the VM.
    for round in 0..=args.rounds {
        eprintln!("round {round} of {}{}", args.rounds, if round == 0 { " (warm-up)" } else { "" });
        let mut bare = None;
        for variant in &mut variants {
            let before = cpu_time_of(variant.pid)?;
            let per_second = match &variant.sends {
                Sends::Nothing => generator.requests_per_second(args, variant.port, &[]),
                Sends::OneToken => {
                    generator.requests_per_second(args, variant.port, &[("authorization", AUTHORIZATION)])
                }
                Sends::NewTokens(tokens) => {
                    match generator.scripted(args, variant.port, &tokens.script) {
                        Some(measured) => measured,
                        // Our own load sends one request only.
                        None => continue,
                    }
                }
            };
            let per_second = per_second.with_context(|| format!("{}\n{}", variant.name, gateway.report()))?;
            let cpu = cpu_time_of(variant.pid)? - before;
            let ratio = per_second / *bare.get_or_insert(per_second);
            if variant.port == *shared || variant.port == *n_shared {
                served += per_second * args.seconds as f64;
            }
            if round > 0 {
                variant.per_second.push(per_second);
                variant.ratios.push(ratio);
                variant.cpu_micros.push(cpu.as_secs_f64() * 1e6 / (per_second * args.seconds as f64));
            }
        }
    }
    let calls = quota_calls(&gateway)?.saturating_sub(calls_before);
    let per_thousand = calls as f64 * 1_000.0 / served;
    let note = format!(
        "\nThe shared limit took {per_thousand:.2} calls to the quota service per 1,000 requests of its one key.\n"
    );
    Ok(table(args, generator, variants) + &note)
}

/// Calls to the quota service that our edge made.
fn quota_calls(gateway: &Gateway) -> Result<u64> {
    let admin = Client::new(gateway.ports().edge_admin);
    let reply =
        admin.get("/stats?format=text&filter=tollgate.rate_limit.quota_calls").send()?.expect_status(200)?;
    let text = reply.text();
    let values = text.lines().filter_map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok());
    Ok(values.sum())
}

fn table(args: &Args, generator: Generator, variants: [Variant<'_>; 19]) -> String {
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

/// Listeners of one Envoy that differ in their policies only. The limits are never reached.
fn yaml(upstream: &Upstream, ports: &[u16], tokens: &Tokens) -> String {
    let policies = |listener: &str| match listener.trim_start_matches("native-") {
        "auth" => "auth: tokens",
        "limit" => "rate_limit: high",
        "both" => "auth: tokens, rate_limit: high",
        "quiet" => "auth: tokens, rate_limit: quiet",
        "shared" => "auth: tokens, rate_limit: shared",
        "fresh" => "auth: fresh",
        _ => "",
    };
    let listener = |(name, port): (&&str, &u16)| {
        let filters = if name.starts_with("native-") { "native" } else { "wasm" };
        format!(
            "  {name}:\n    address: 127.0.0.1:{port}\n    filters: {filters}\n    virtual_hosts:\n      - name: bench\n        hosts: [\"*\"]\n        \
             policies: {{ {} }}\n        routes: [{{ match: {{ path: {{ prefix: / }} }}, to: bench }}]\n",
            policies(name)
        )
    };
    let high = "key: [consumer], limit: 10000000/s, burst: 10000000";
    format!(
        "version: v1\nproxies: {{ edge: {{ listeners: [{}] }} }}\nlisteners:\n{}clusters:\n  bench: {{ endpoints: [\"{}\"] \
         }}\npolicies:\n  auth:\n    tokens: {{ any_of: [{{ jwt: {{ issuer: https://bench.test, audiences: [api], algorithms: \
         [HS256], jwks: {{ inline: {{ keys: [{{ kty: oct, kid: bench, alg: HS256, k: {KEY} }}] }} }} }} }}] }}\n    fresh: {{ any_of: \
         [{{ jwt: {{ issuer: https://issuer.example, audiences: [api], algorithms: [RS256], jwks: {{ inline: {} }} }} }}] }}\n  \
         rate_limit:\n    high: {{ {high} }}\n    quiet: {{ {high}, headers: limited }}\n    shared: {{ {high}, headers: limited, \
         scope: global }}\n",
        [LISTENERS.as_slice(), &NATIVE].concat().join(", "),
        LISTENERS.iter().chain(&NATIVE).zip(ports).map(listener).collect::<String>(),
        upstream.address(),
        tokens.jwks,
    )
}
