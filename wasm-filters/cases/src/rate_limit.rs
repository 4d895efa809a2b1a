//! Cases of the rate-limit filter. Buckets refill once an hour where a case must not depend on how fast it runs.

use std::time::Duration;

use tollgate_filter_config::{KeyPart, Limit, QuotaHeaders, RateLimitConfig, RateLimitPolicy};

use crate::case::{Case, Expect, Step};

mod plans;

const HOUR_MS: u64 = 3_600_000;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = counting();
    cases.extend(keys());
    cases.extend(several_limits());
    cases.extend(plans::cases());
    cases
}

fn several_limits() -> Vec<Case> {
    let main = |expect| Step::on("main", expect);
    let each = || policy([KeyPart::Header("x-tenant".to_owned())], 2, 2);
    let of = |tenant: &str, expect| main(expect).header("x-tenant", tenant);
    vec![
        Case::rate_limit(
            "all limits of a policy hold, and what one refuses costs the others nothing",
            several(vec![policy([], 60, 4), each()], QuotaHeaders::Always),
            [
                of("a", left(2, 1).client_has("ratelimit", "\"p\";r=3;t=")),
                of("a", left(2, 0)),
                of("a", limited(2)),
                of("a", limited(2).client_has("ratelimit", "\"p/2\";r=0;t=")),
                of("b", left(60, 1)),
                of("b", left(60, 0)),
                of("c", limited(60)),
            ],
        ),
        Case::rate_limit(
            "a limit in shadow mode refuses nothing and is not told",
            several(vec![Limit { shadow: true, ..policy([], 1, 1) }, each()], QuotaHeaders::Always),
            [of("a", left(2, 1)), of("b", left(2, 1)), of("b", left(2, 0)), of("b", limited(2))],
        ),
        Case::rate_limit(
            "a request takes what it costs",
            config(Limit { cost: 2, ..policy([], 5, 5) }),
            [main(left(5, 3)), main(left(5, 1)), main(refused().client("x-ratelimit-limit", "5"))],
        ),
        Case::rate_limit(
            "responses tell nothing of the limit until it refuses, where they are not to",
            several(vec![policy([], 1, 1)], QuotaHeaders::Limited),
            [
                main(Expect::passes().no_client("ratelimit").no_client("x-ratelimit-limit")),
                main(limited(1).client_has("ratelimit", "\"p\";r=0;t=")),
            ],
        ),
        Case::rate_limit(
            "the method can be part of the key",
            config(policy([KeyPart::Method], 1, 1)),
            [main(left(1, 0)), main(limited(1))],
        ),
    ]
}

fn counting() -> Vec<Case> {
    let main = |expect| Step::on("main", expect);
    vec![
        Case::rate_limit(
            "a burst passes and then nothing",
            config(policy([], 3, 3)),
            [main(left(3, 2)), main(left(3, 1)), main(left(3, 0)), main(limited(3)), main(limited(3))],
        ),
        Case::rate_limit(
            "the burst may be smaller than the limit",
            config(policy([], 60, 2)),
            [main(left(60, 1)), main(left(60, 0)), main(limited(60))],
        ),
        Case::rate_limit(
            "the burst may be larger than the limit",
            config(policy([], 1, 3)),
            [main(left(1, 2)), main(left(1, 1)), main(left(1, 0)), main(limited(1))],
        ),
        Case::rate_limit(
            "a token comes back after its time",
            config(every_three_seconds(2)),
            [
                main(Expect::passes()),
                main(Expect::passes()),
                main(refused()),
                main(Expect::passes()).after(Duration::from_millis(3_500)),
                main(refused()),
            ],
        ),
        Case::rate_limit(
            "an idle bucket is full again and not fuller",
            config(every_three_seconds(2)),
            [
                main(Expect::passes()),
                main(left_of(2, 1)).after(Duration::from_secs(7)),
                main(left_of(2, 0)),
                main(refused()),
            ],
        ),
        Case::rate_limit(
            "a refused request does not put the next one off",
            config(every_three_seconds(1)),
            [
                main(Expect::passes()),
                main(refused()).after(Duration::from_millis(750)),
                main(refused()).after(Duration::from_millis(750)),
                main(Expect::passes()).after(Duration::from_secs(2)),
            ],
        ),
        Case::rate_limit(
            "the headers say what the draft says",
            config(policy([], 2, 2)),
            [
                main(
                    Expect::passes()
                        .client("ratelimit-policy", r#""p";q=2;w=3600"#)
                        .client_has("ratelimit", r#""p";r=1;t="#),
                ),
                main(Expect::passes().client_has("ratelimit", r#""p";r=0;t="#)),
                main(
                    Expect::refused(429, "rate_limited")
                        .client("ratelimit-policy", r#""p";q=2;w=3600"#)
                        .client_has("ratelimit", r#""p";r=0;t="#)
                        .client_has("retry-after", ""),
                ),
            ],
        ),
        Case::rate_limit(
            "a route without a policy is not limited",
            config(policy([], 1, 1)),
            [
                Step::on("open", Expect::passes().no_client("ratelimit").no_client("x-ratelimit-limit")),
                Step::on("open", Expect::passes()),
            ],
        ),
        Case::rate_limit(
            "a route whose limit is unknown lets nobody through",
            config(policy([], 1, 1)),
            [Step::on("stray", Expect::refused(503, "unknown_policy").client("retry-after", "1"))],
        ),
        Case::rate_limit(
            "each policy has its own buckets",
            both(policy([], 1, 1), policy([], 1, 1)),
            [
                main(left(1, 0)),
                Step::on("second", left(1, 0)),
                main(limited(1)),
                Step::on("second", limited(1)),
            ],
        ),
    ]
}

fn keys() -> Vec<Case> {
    let main = |expect| Step::on("main", expect);
    let consumer = |name: &str, expect| main(expect).header("x-consumer-id", name);
    let header = || policy([KeyPart::Header("x-tenant".to_owned())], 1, 1);
    let tenant = |value: &[u8], expect| main(expect).header("x-tenant", value);
    let (first, second) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    vec![
        Case::rate_limit(
            "an empty key is one bucket for all",
            config(policy([], 1, 1)),
            [consumer("alice", left(1, 0)).from(first), consumer("bob", limited(1)).from(second)],
        ),
        Case::rate_limit(
            "consumers are counted apart",
            config(policy([KeyPart::Consumer], 1, 1)),
            [
                consumer("alice", left(1, 0)),
                consumer("bob", left(1, 0)),
                consumer("alice", limited(1)),
                consumer("bob", limited(1)),
            ],
        ),
        Case::rate_limit(
            "a consumer is the same from every address",
            config(policy([KeyPart::Consumer], 1, 1)),
            [consumer("alice", left(1, 0)).from(first), consumer("alice", limited(1)).from(second)],
        ),
        Case::rate_limit(
            "who is nobody is counted by address",
            config(policy([KeyPart::Consumer], 1, 1)),
            [
                main(left(1, 0)).from(first),
                main(left(1, 0)).from(second),
                main(limited(1)).from(first),
                consumer("alice", left(1, 0)).from(first),
            ],
        ),
        Case::rate_limit(
            "a consumer named like an address is not that address",
            config(policy([KeyPart::Consumer], 1, 1)),
            [consumer("127.0.0.2", left(1, 0)).from(second), main(left(1, 0)).from(first)],
        ),
        Case::rate_limit(
            "addresses are counted apart, whatever the port",
            config(policy([KeyPart::ClientAddress], 1, 1)),
            [
                main(left(1, 0)).from(first),
                main(left(1, 0)).from(second),
                main(limited(1)).from(first),
                main(limited(1)).from(second),
            ],
        ),
        Case::rate_limit(
            "a client cannot choose its address",
            config(policy([KeyPart::ClientAddress], 1, 1)),
            [
                main(left(1, 0)).from(first),
                main(limited(1))
                    .from(first)
                    .header("x-forwarded-for", "198.51.100.7")
                    .header("x-real-ip", "198.51.100.7"),
            ],
        ),
        Case::rate_limit(
            "routes are counted apart",
            config(policy([KeyPart::Route], 1, 1)),
            [
                main(left(1, 0)),
                Step::on("other", left(1, 0)),
                main(limited(1)),
                Step::on("other", limited(1)),
            ],
        ),
        Case::rate_limit(
            "without the route in the key, routes are counted together",
            config(policy([], 1, 1)),
            [main(left(1, 0)), Step::on("other", limited(1))],
        ),
        Case::rate_limit(
            "values of a header are counted apart",
            config(header()),
            [
                tenant(b"a", left(1, 0)),
                tenant(b"b", left(1, 0)),
                tenant(b"a", limited(1)),
                main(left(1, 0)),
                main(limited(1)),
            ],
        ),
        Case::rate_limit(
            "bytes that are no text are a value like others",
            config(header()),
            [
                tenant(b"\xff", left(1, 0)),
                tenant(b"\xfe", left(1, 0)),
                tenant(b"\xff", limited(1)),
                consumer("\u{e9}", left(1, 0)),
            ],
        ),
        Case::rate_limit(
            "two values of a header are not one",
            config(header()),
            [
                tenant(b"a", left(1, 0)).header("x-tenant", "b"),
                tenant(b"ab", left(1, 0)),
                tenant(b"a,b", left(1, 0)),
                tenant(b"a", limited(1)).header("x-tenant", "b"),
            ],
        ),
        Case::rate_limit(
            "every part of a key counts",
            config(policy([KeyPart::Consumer, KeyPart::Route, KeyPart::Header("x-tenant".to_owned())], 1, 1)),
            [
                consumer("alice", left(1, 0)).header("x-tenant", "a"),
                consumer("alice", left(1, 0)).header("x-tenant", "b"),
                consumer("bob", left(1, 0)).header("x-tenant", "a"),
                Step::on("other", left(1, 0)).header("x-consumer-id", "alice").header("x-tenant", "a"),
                consumer("alice", limited(1)).header("x-tenant", "a"),
            ],
        ),
        Case::rate_limit(
            "a huge key is a key",
            config(header()),
            [
                tenant(&[b'x'; 20_000], left(1, 0)),
                tenant(&[b'x'; 20_000], limited(1)),
                tenant(&[b'x'; 19_999], left(1, 0)),
            ],
        ),
    ]
}

/// `limit` requests an hour.
fn policy(key: impl IntoIterator<Item = KeyPart>, limit: u64, burst: u64) -> Limit {
    let (name, key) = (String::new(), key.into_iter().collect());
    Limit { name, key, limit, period_ms: HOUR_MS, burst, cost: 1, shadow: false, global: None, plans: None }
}

/// For cases that wait: long enough that the steps between the waits take less.
fn every_three_seconds(burst: u64) -> Limit {
    Limit { period_ms: 6_000, ..policy([], 2, burst) }
}

fn config(p: Limit) -> RateLimitConfig {
    several(vec![p], QuotaHeaders::Always)
}

/// Policy `p` with several limits: `p`, `p/2`, ….
fn several(limits: Vec<Limit>, headers: QuotaHeaders) -> RateLimitConfig {
    let names = (1..).map(|number| if number == 1 { "p".to_owned() } else { format!("p/{number}") });
    let limits = limits.into_iter().zip(names).map(|(limit, name)| Limit { name, ..limit }).collect();
    RateLimitConfig { policies: [("p".to_owned(), RateLimitPolicy { limits, headers })].into(), quota: None }
}

fn both(p: Limit, q: Limit) -> RateLimitConfig {
    let mut config = config(p);
    let limits = vec![Limit { name: "q".to_owned(), ..q }];
    config.policies.insert("q".to_owned(), RateLimitPolicy { limits, headers: QuotaHeaders::Always });
    config
}

/// It passes, and the client is told how much is left.
fn left(limit: u64, remaining: u64) -> Expect {
    left_of(limit, remaining).no_client("retry-after")
}

fn left_of(limit: u64, remaining: u64) -> Expect {
    Expect::passes()
        .client("x-ratelimit-limit", limit.to_string())
        .client("x-ratelimit-remaining", remaining.to_string())
}

/// It is refused.
fn refused() -> Expect {
    Expect::refused(429, "rate_limited").client_has("retry-after", "")
}

/// It is refused, and the client is told of the limit and when to come back.
fn limited(limit: u64) -> Expect {
    refused()
        .client("x-ratelimit-limit", limit.to_string())
        .client("x-ratelimit-remaining", "0")
        .client_has("x-ratelimit-reset", "")
}
