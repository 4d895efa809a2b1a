//! What the filters cost: the same requests through Envoy without them, with each, and with both; and beside them, what
//! Envoy's own filters for the same jobs cost.
//!
//! The variants take turns within each round, and each is compared with the bare Envoy as it was right before, sent the same
//! requests: a machine that gets slower or faster does so for both, and both read what the requests bring.

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

/// The listeners of an edge of ours, by what they do, and what their rows are called.
const LISTENERS: [(&str, &str); 7] = [
    ("plain", "a gateway without policies"),
    ("auth", "with auth (a token seen before)"),
    ("limit", "with rate limit"),
    ("both", "with both"),
    ("quiet", "with both, quota told on 429 only"),
    (SHARED, "the same, the limit shared by all Envoys (Redis)"),
    ("fresh", "with auth (RS256, tokens never seen before)"),
];
const SHARED: &str = "shared";

/// One way through Envoy, and what was measured on it.
struct Variant<'a> {
    name: String,
    port: u16,
    /// The Envoy whose processor time counts.
    pid: i32,
    sends: Sends<'a>,
    per_second: Vec<f64>,
    ratios: Vec<f64>,
    cpu_micros: Vec<f64>,
}

/// What the requests bring.
#[derive(Clone, Copy)]
enum Sends<'a> {
    Nothing,
    /// The same token each.
    OneToken,
    /// A token that was not seen before.
    NewTokens(&'a Tokens),
}

impl<'a> Variant<'a> {
    fn new(name: impl Into<String>, (port, pid): (u16, i32), sends: Sends<'a>) -> Self {
        let (per_second, ratios, cpu_micros) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), port, pid, sends, per_second, ratios, cpu_micros }
    }

    /// Requests per second, and microseconds of Envoy's a request. `None` where our own load can't send them.
    fn measure(&self, args: &Args, generator: Generator) -> Result<Option<(f64, f64)>> {
        let before = cpu_time_of(self.pid)?;
        let per_second = match &self.sends {
            Sends::Nothing => generator.requests_per_second(args, self.port, &[]),
            Sends::OneToken => {
                generator.requests_per_second(args, self.port, &[("authorization", AUTHORIZATION)])
            }
            Sends::NewTokens(tokens) => match generator.scripted(args, self.port, &tokens.script) {
                Some(measured) => measured,
                None => return Ok(None),
            },
        }?;
        let cpu = cpu_time_of(self.pid)? - before;
        Ok(Some((per_second, cpu.as_secs_f64() * 1e6 / (per_second * args.seconds as f64))))
    }

    fn note(&mut self, (per_second, cpu_micros): (f64, f64), bare: f64) {
        self.per_second.push(per_second);
        self.ratios.push(per_second / bare);
        self.cpu_micros.push(cpu_micros);
    }
}

/// An edge with all listeners, whose filters all run so.
struct Edge {
    gateway: Gateway,
    ports: Vec<u16>,
    filters: &'static str,
}

impl Edge {
    fn start(
        filters: &'static str,
        redis: &redis::Server,
        upstream: &Upstream,
        tokens: &Tokens,
    ) -> Result<Self> {
        let ports = LISTENERS.map(|_| ports::free()).into_iter().collect::<Result<Vec<u16>>>()?;
        let yaml = yaml(filters, upstream, &ports, tokens);
        let url = format!("redis://127.0.0.1:{}", redis.port);
        let gateway = Gateway::edge_only_on(
            &format!("bench-throughput-{filters}"),
            |stack| {
                stack.concurrency = 1;
                stack.xds_arguments = ["--quota-redis", &url].map(str::to_owned).to_vec();
                Ok(())
            },
            |_| yaml,
        )?;
        Ok(Self { gateway, ports, filters })
    }

    fn variants<'a>(&self, tokens: &'a Tokens) -> Result<Vec<Variant<'a>>> {
        let pid = self.gateway.pid(Proxy::Edge).context("the edge is not running")?;
        let variant = |((listener, name), port): ((&str, &str), &u16)| {
            let sends = match listener {
                "plain" | "limit" => Sends::Nothing,
                "fresh" => Sends::NewTokens(tokens),
                _ => Sends::OneToken,
            };
            Variant::new(format!("{}: {name}", self.filters), (*port, pid), sends)
        };
        Ok(LISTENERS.into_iter().zip(&self.ports).map(variant).collect())
    }

    /// The port of the listener whose limit is shared.
    fn shared(&self) -> Option<u16> {
        LISTENERS
            .iter()
            .zip(&self.ports)
            .find(|((listener, _), _)| *listener == SHARED)
            .map(|(_, port)| *port)
    }
}

/// Markdown with the medians.
pub(super) fn measure(args: &Args, toolbox: &Toolbox) -> Result<String> {
    let upstream = Upstream::start_silent("bench")?;
    let tokens = Tokens::mint()?;
    let redis = redis::Server::in_memory()?;
    // Each in a process of its own, as it would be: those with Wasm have a virtual machine beside each worker.
    let edges = ["wasm", "native"].map(|filters| Edge::start(filters, &redis, &upstream, &tokens));
    let edges = edges.into_iter().collect::<Result<Vec<Edge>>>()?;
    let quota = edges.first().context("there is an edge")?.gateway.ports().xds_quota;
    let native = Native::start(toolbox, &upstream, quota, &tokens)?;
    let theirs = |port: u16| (port, native.pid());
    let mut bare = [
        ("bare Envoy", Sends::Nothing),
        ("bare Envoy, which passes a token on", Sends::OneToken),
        ("bare Envoy, which passes tokens on (RS256)", Sends::NewTokens(&tokens)),
    ]
    .map(|(name, sends)| Variant::new(name, theirs(native.bare), sends));
    let mut variants = Vec::new();
    for edge in &edges {
        variants.extend(edge.variants(&tokens)?);
    }
    variants.extend([
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
    ]);
    let generator = Generator::find();
    let calls = || edges.iter().map(|edge| quota_calls(&edge.gateway)).sum::<Result<u64>>();
    let (mut served, calls_before) = (0.0, calls()?);
    let report = || edges.iter().map(|edge| edge.gateway.report()).collect::<String>();
    // The first round warms up: connections, caches, the compiler of the VM.
    for round in 0..=args.rounds {
        eprintln!("round {round} of {}{}", args.rounds, if round == 0 { " (warm-up)" } else { "" });
        for variant in &mut variants {
            let measured = |variant: &Variant<'_>| {
                variant.measure(args, generator).with_context(|| format!("{}\n{}", variant.name, report()))
            };
            let [nothing, one_token, new_tokens] = &mut bare;
            let bare = match variant.sends {
                Sends::Nothing => nothing,
                Sends::OneToken => one_token,
                Sends::NewTokens(_) => new_tokens,
            };
            let (Some(before), Some(now)) = (measured(bare)?, measured(variant)?) else { continue };
            if edges.iter().any(|edge| edge.shared() == Some(variant.port)) {
                served += now.0 * args.seconds as f64;
            }
            if round > 0 {
                bare.note(before, before.0);
                variant.note(now, before.0);
            }
        }
    }
    let per_thousand = calls()?.saturating_sub(calls_before) as f64 * 1_000.0 / served;
    let note = format!(
        "\nThe shared limit took {per_thousand:.2} calls to the quota service per 1,000 requests of its one key.\n"
    );
    Ok(table(args, generator, bare.into_iter().chain(variants)) + &note)
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

fn table<'a>(args: &Args, generator: Generator, variants: impl Iterator<Item = Variant<'a>>) -> String {
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
fn yaml(filters: &str, upstream: &Upstream, ports: &[u16], tokens: &Tokens) -> String {
    let policies = |listener: &str| match listener {
        "auth" => "auth: tokens",
        "limit" => "rate_limit: high",
        "both" => "auth: tokens, rate_limit: high",
        "quiet" => "auth: tokens, rate_limit: quiet",
        SHARED => "auth: tokens, rate_limit: shared",
        "fresh" => "auth: fresh",
        _ => "",
    };
    let listener = |((name, _), port): (&(&str, &str), &u16)| {
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
        LISTENERS.map(|(name, _)| name).join(", "),
        LISTENERS.iter().zip(ports).map(listener).collect::<String>(),
        upstream.address(),
        tokens.jwks,
    )
}
