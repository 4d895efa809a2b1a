//! Limits that several Envoys share: how many requests pass, whatever is killed meanwhile, and what it costs.
//!
//! Each test prints its figures; `cargo test … -- quota --nocapture` shows them.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tollgate_tests::{
    gateway::Gateway,
    load::{Load, RunningLoad},
    redis::Server,
    stack::AnotherEdge,
    upstream::Upstream,
    wait::{holds, wait_until},
};

use crate::yaml::{Edge, Filters};

mod native;

const RATE: u64 = 400;
const BURST: u64 = 400;
const DEADLINE: Duration = Duration::from_secs(60);

/// An upstream that notes when each request came: what was admitted, also where no answer reached the client.
struct Counted {
    upstream: Upstream,
    times: Arc<Mutex<Vec<Instant>>>,
}

impl Counted {
    fn start() -> Self {
        let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let noted = Arc::clone(&times);
        let upstream = Upstream::serve(move |_| {
            noted.lock().unwrap().push(Instant::now());
            async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))) }
        });
        Self { upstream: upstream.unwrap(), times }
    }

    fn yaml(&self, policy: &str, filters: Filters) -> Edge {
        let route = "{ match: { path: { prefix: / } }, to: counted, policies: { rate_limit: shared } }";
        Edge {
            clusters: vec![format!("counted: {{ endpoints: [\"{}\"] }}", self.upstream.address())],
            rate_limit: vec![format!("shared: {{ key: [], scope: global, {policy} }}")],
            filters,
            ..Edge::with_routes([route])
        }
    }

    fn count(&self) -> u64 {
        self.times.lock().unwrap().len() as u64
    }

    /// At no time since `start` had more passed than the limit allows from a cold start on. Returns how many passed, and
    /// by how many a later window of any length exceeded what it would allow a fresh bucket.
    fn check(&self, what: &str, start: Instant, rate: u64, burst: u64) -> u64 {
        let times = self.times.lock().unwrap().clone();
        let mut least_room = f64::MAX;
        let (mut lowest, mut window_excess) = (f64::MAX, f64::MIN);
        for (index, time) in times.iter().enumerate() {
            let count = index as f64 + 1.0;
            let allowed = time.duration_since(start).as_secs_f64() * rate as f64;
            least_room = least_room.min(burst as f64 + allowed - count);
            // The worst window that ends here began where `count - allowed` was lowest.
            lowest = lowest.min(count - 1.0 - allowed);
            window_excess = window_excess.max(count - allowed - lowest - burst as f64);
        }
        let time = start.elapsed().as_secs_f64();
        let most = rate as f64 * time + burst as f64;
        println!(
            "{what}: {} admitted in {time:.2} s of at most {most:.0} ({:.3}); least room {least_room:.0}; worst later \
             window {window_excess:+.0}",
            times.len(),
            times.len() as f64 / most,
        );
        assert!(least_room >= 0.0, "{what}: more passed than the limit allows from a cold start");
        times.len() as u64
    }
}

/// Three Envoys on one address.
fn three_envoys(name: &str, xds_arguments: &[&str], yaml: &Edge) -> Gateway {
    let gateway = Gateway::edge_only_with(name, xds_arguments, |ports| yaml.text(ports)).unwrap();
    for id in ["edge-2", "edge-3"] {
        add(&gateway, id);
    }
    gateway
}

fn add(gateway: &Gateway, id: &str) {
    gateway.add_edge(&AnotherEdge { id, labels: &[], xds_port: gateway.ports().xds_grpc }).unwrap();
}

fn load(gateway: &Gateway, per_second: f64) -> RunningLoad {
    Load::on(gateway.ports().edge).get("/", &[]).connections(24).rate(per_second).start()
}

/// A counter of xds-server's.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.xds().get("/metrics").send().unwrap().text();
    text.lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum::<f64>() as u64
}

fn keep(load: &RunningLoad, requests: u64) {
    load.wait_for(requests).unwrap();
}

#[test]
fn three_envoys_share_one_limit() {
    share_one_limit(Filters::Wasm);
}

#[test]
fn three_envoys_share_one_limit_natively() {
    share_one_limit(Filters::Native);
}

fn share_one_limit(filters: Filters) {
    let counted = Counted::start();
    let policy = format!("limit: {RATE}/s, burst: {BURST}");
    let gateway = three_envoys(&filters.name("quota-three"), &[], &counted.yaml(&policy, filters));
    let start = Instant::now();
    let load = load(&gateway, 1_500.0);
    keep(&load, 6_000);
    let report = load.stop().unwrap();
    let admitted = counted.check(&format!("three Envoys ({filters:?})"), start, RATE, BURST);
    println!("{report}; {} calls", metric(&gateway, "tollgate_quota_requests_total"));
    let most = RATE as f64 * start.elapsed().as_secs_f64() + BURST as f64;
    assert!(admitted as f64 > 0.75 * most, "the limit should be used, too: {report}");
    let others = report.to_string().lines().skip(1).all(|line| line.contains("status 429"));
    assert!(others, "those over the limit are told so, and nobody else fails: {report}");
}

#[test]
fn a_hot_key_takes_few_calls() {
    few_calls(Filters::Wasm);
}

#[test]
fn a_hot_key_takes_few_calls_natively() {
    few_calls(Filters::Native);
}

fn few_calls(filters: Filters) {
    let counted = Counted::start();
    let gateway = three_envoys(&filters.name("quota-hot"), &[], &counted.yaml("limit: 100000/s", filters));
    let load = Load::on(gateway.ports().edge).get("/", &[]).connections(24).start();
    keep(&load, 20_000);
    let report = load.stop().unwrap();
    let calls = metric(&gateway, "tollgate_quota_requests_total");
    let per_thousand = calls as f64 * 1_000.0 / report.requests() as f64;
    println!(
        "hot key ({filters:?}): {} requests at {:.0}/s on six workers, {calls} calls, {per_thousand:.2} per 1,000",
        report.requests(),
        report.per_second()
    );
    println!("p50 {:.1?}, {report}", report.percentile(0.5));
    assert_eq!(report.failures(), 0, "{report}");
    assert!(calls > 0 && per_thousand < 10.0, "{per_thousand}");
}

#[test]
fn the_limit_holds_while_envoys_the_quota_service_and_redis_are_killed() {
    holds_under_kills(Filters::Wasm);
}

#[test]
fn the_limit_holds_while_envoys_the_quota_service_and_redis_are_killed_natively() {
    holds_under_kills(Filters::Native);
}

fn holds_under_kills(filters: Filters) {
    let redis = Server::durable().unwrap();
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let counted = Counted::start();
    let policy = format!("limit: {RATE}/s, burst: {BURST}, on_failure: deny");
    let gateway =
        three_envoys(&filters.name("quota-kills"), &["--quota-redis", &url], &counted.yaml(&policy, filters));
    let start = Instant::now();
    let load = load(&gateway, 1_200.0);
    keep(&load, 2_000);
    gateway.kill("edge-2").unwrap();
    keep(&load, 1_500);
    add(&gateway, "edge-4");
    keep(&load, 1_500);
    gateway.kill_xds_server().unwrap();
    keep(&load, 3_000);
    let before = counted.count();
    gateway.restart_xds_server().unwrap();
    wait_until("requests to pass again", DEADLINE, || holds(counted.count() > before + RATE)).unwrap();
    redis.kill().unwrap();
    keep(&load, 3_000);
    let before = counted.count();
    redis.run().unwrap();
    wait_until("requests to pass again", DEADLINE, || holds(counted.count() > before + RATE)).unwrap();
    keep(&load, 1_500);
    let report = load.stop().unwrap();
    println!("{report}");
    counted.check(&format!("kills of Envoy, xds-server and Redis ({filters:?})"), start, RATE, BURST);
    let text = report.to_string();
    assert!(text.contains("status 503") && text.contains("status 429"), "{text}");
}

#[test]
fn while_nobody_can_say_each_envoy_allows_its_share() {
    allows_its_share(Filters::Wasm);
}

#[test]
fn while_nobody_can_say_each_envoy_allows_its_share_natively() {
    allows_its_share(Filters::Native);
}

fn allows_its_share(filters: Filters) {
    const SHARE: f64 = 0.25;
    let redis = Server::durable().unwrap();
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let counted = Counted::start();
    let policy = format!("limit: {RATE}/s, burst: {BURST}, on_failure: allow, failure_share: 25");
    let gateway =
        three_envoys(&filters.name("quota-allow"), &["--quota-redis", &url], &counted.yaml(&policy, filters));
    redis.kill().unwrap();
    let start = Instant::now();
    let load = load(&gateway, 1_500.0);
    keep(&load, 6_000);
    let report = load.stop().unwrap();
    let (time, admitted) = (start.elapsed().as_secs_f64(), counted.count() as f64);
    let share = SHARE * (RATE as f64 * time + BURST as f64);
    println!(
        "Redis away, allow ({filters:?}): {admitted} admitted in {time:.2} s by three Envoys, {share:.0} each allowed\n{report}"
    );
    assert!(admitted <= 3.0 * share, "{admitted} of {}", 3.0 * share);
    assert!(admitted > 2.0 * share, "all three let requests pass: {admitted} of {}", 3.0 * share);
}
