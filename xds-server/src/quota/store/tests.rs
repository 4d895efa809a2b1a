//! One body of facts for every store: memory, and real Redis servers of each kind.

use std::time::Duration;

use tollgate_filter_core::quota::{CLOCK_SLACK, Debit};
use tollgate_tests::redis::{Cluster, Guarded, MASTER, PASSWORD, Server, USER};
use tollgate_tests::tls::Authority;

use super::*;

const START: u64 = 1_800_000_000_000_000;

/// A batch on a store at a time that the test sets.
async fn at(store: &Store, now: u64, batch: &[Operation]) -> Vec<Outcome> {
    let outcomes = match store {
        Store::Memory(memory) => memory.apply(batch, now),
        Store::Redis(redis) => redis.apply(batch, Some(now)).await,
    };
    outcomes.unwrap()
}

fn bucket(name: u64) -> BucketId {
    let mut id = BucketId::default();
    id[..8].copy_from_slice(&name.to_le_bytes());
    id[8..].copy_from_slice(&getrandom::u64().unwrap().to_le_bytes());
    id
}

fn limit(requests: u64, seconds: u64, burst: u64) -> Limit {
    Limit::new(requests, Duration::from_secs(seconds), burst).unwrap()
}

/// Everything that holds for any store.
async fn facts(store: &Store) {
    tokens_are_debited_once(store).await;
    a_batch_is_done_in_order(store).await;
    unused_tokens_come_back(store).await;
    the_sums_are_those_of_the_core(store).await;
    no_more_than_the_burst_at_once(store).await;
}

async fn tokens_are_debited_once(store: &Store) {
    let ask = |kind, tokens| Operation { bucket: [7; 16], kind, tokens, limit: limit(10, 1, 20) };
    let ask = |kind, tokens, id| Operation { bucket: id, ..ask(kind, tokens) };
    let id = bucket(1);
    let taken = async |now, operation| at(store, now, &[operation]).await[0].taken;
    assert_eq!(taken(START, ask(Kind::UpTo, 15, id)).await, 15);
    assert_eq!(taken(START, ask(Kind::Whole, 6, id)).await, 0, "all or none");
    assert_eq!(taken(START, ask(Kind::UpTo, 15, id)).await, 5, "as many as there are");
    assert_eq!(taken(START + 99_999, ask(Kind::UpTo, 1, id)).await, 0);
    assert_eq!(taken(START + 100_000, ask(Kind::UpTo, 2, id)).await, 1);
    assert_eq!(taken(START + 10_000_000, ask(Kind::Whole, 20, id)).await, 20, "full again");
}

async fn a_batch_is_done_in_order(store: &Store) {
    let (a, b) = (bucket(2), bucket(3));
    let up_to = |bucket, tokens| Operation { bucket, kind: Kind::UpTo, tokens, limit: limit(1, 3600, 10) };
    let batch = [up_to(a, 4), up_to(b, 10), up_to(a, 4), up_to(b, 1), up_to(a, 4)];
    let taken: Vec<u64> = at(store, START, &batch).await.iter().map(|outcome| outcome.taken).collect();
    assert_eq!(taken, [4, 10, 4, 0, 2]);
    assert_eq!(at(store, START, &[]).await, []);
}

async fn unused_tokens_come_back(store: &Store) {
    let id = bucket(4);
    let operation = |kind, tokens| Operation { bucket: id, kind, tokens, limit: limit(1, 86_400 * 30, 10) };
    let batch = [operation(Kind::UpTo, 10), operation(Kind::Credit(1), 4), operation(Kind::UpTo, 10)];
    let taken: Vec<u64> = at(store, START, &batch).await.iter().map(|outcome| outcome.taken).collect();
    assert_eq!(taken, [10, 0, 4]);
    at(store, START, &[operation(Kind::Credit(2), 1_000_000)]).await;
    let outcome = at(store, START, &[operation(Kind::UpTo, 1_000)]).await[0];
    assert_eq!(outcome.taken, 10, "a bucket is never more than full");
}

/// Random operations, against the core's own arithmetic.
async fn the_sums_are_those_of_the_core(store: &Store) {
    // Behind what the facts before this one did: a store's clock does not go back.
    let (mut random, mut now) = (Random(0x5eed), START + 20_000_000);
    for round in 0..12_u64 {
        let id = bucket(100 + round);
        let requests = [1, 7, 999, 1_000_003, 999_999_937][random.below(5) as usize];
        let seconds = [1, 3, 60, 3_600, 86_400 * 30][random.below(5) as usize];
        let Some(limit) = Limit::new(requests, Duration::from_secs(seconds), 1 + random.below(5_000)) else {
            continue;
        };
        let mut state = Micros::default();
        for step in 0..8 {
            now += random.below(seconds * 500_000) + random.below(3);
            let batch: Vec<Operation> = (0..6)
                .map(|index| {
                    let kind = match random.below(4) {
                        0 => Kind::Whole,
                        1 => Kind::Credit(round << 32 | step << 8 | index),
                        _ => Kind::UpTo,
                    };
                    Operation { bucket: id, kind, tokens: random.below(700), limit }
                })
                .collect();
            let outcomes = at(store, now, &batch).await;
            for (operation, outcome) in batch.iter().zip(outcomes) {
                let known = if state.whole < now { Micros::default() } else { state };
                let (taken, next) = match operation.kind {
                    Kind::Whole => limit.debit(known, now, operation.tokens, Debit::Whole),
                    Kind::UpTo => limit.debit(known, now, operation.tokens, Debit::UpTo),
                    Kind::Credit(_) => (0, limit.credit(known, now, operation.tokens)),
                };
                assert_eq!(outcome.taken, taken, "{operation:?} at {now} on {known:?}");
                // Any state in the past is a full bucket.
                if next.whole >= now || outcome.state.whole >= now {
                    assert_eq!(outcome.state, next, "{operation:?} at {now} on {known:?}");
                }
                state = next;
            }
        }
    }
}

/// With the store's own clock, and from several tasks at once.
async fn no_more_than_the_burst_at_once(store: &Store) {
    let id = bucket(5);
    let operation = Operation { bucket: id, kind: Kind::UpTo, tokens: 7, limit: limit(1, 86_400, 100) };
    let batch = [operation; 3];
    let batches = futures_util::future::join_all((0..20).map(|_| store.apply(&batch))).await;
    let taken: u64 =
        batches.iter().flat_map(|batch| batch.as_ref().unwrap()).map(|outcome| outcome.taken).sum();
    assert_eq!(taken, 100);
}

struct Random(u64);

impl Random {
    /// Xorshift, so that a failure can be seen again.
    fn below(&mut self, bound: u64) -> u64 {
        for shift in [13, -7_i32, 17] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        self.0 % bound.max(1)
    }
}

fn redis(urls: &[String], topology: Topology) -> RedisSettings {
    RedisSettings {
        urls: urls.to_vec(),
        topology,
        username: None,
        password: None,
        trusted_ca: None,
        // The machine may be compiling at the same time.
        timeout: Duration::from_secs(5),
    }
}

fn open(settings: &RedisSettings) -> Store {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Store::Redis(Box::new(Redis::new(settings).unwrap()))
}

#[tokio::test]
async fn memory_keeps_buckets() {
    facts(&Store::Memory(Memory::default())).await;
}

#[tokio::test]
async fn memory_forgets_full_buckets_and_refuses_beyond_its_room() {
    let memory = Memory::new(2_000);
    let take =
        |name: u64| Operation { bucket: bucket(name), kind: Kind::UpTo, tokens: 1, limit: limit(1, 1, 1) };
    for name in 0..2_000 {
        memory.apply(&[take(name)], START).unwrap();
    }
    let full = memory.apply(&[take(2_001)], START + 500_000);
    assert!(matches!(full, Err(StoreError::Full(2_000))), "{full:?}");
    memory.apply(&[take(2_001)], START + CLOCK_SLACK + 1).unwrap();
    assert_eq!(memory.len(), 1, "those that are full again are forgotten");
}

#[tokio::test]
async fn redis_with_an_acl_user_keeps_buckets() {
    let server = Server::with_acl_user().unwrap();
    let url = format!("redis://127.0.0.1:{}", server.port);
    let login = (Some(USER.to_owned()), Some(PASSWORD.to_owned()));
    let settings = RedisSettings {
        username: login.0,
        password: login.1,
        ..redis(std::slice::from_ref(&url), Topology::Single)
    };
    facts(&open(&settings)).await;
    let error = open(&redis(&[url], Topology::Single)).apply(&[one()]).await.unwrap_err();
    assert!(!error.to_string().contains(PASSWORD), "{error}");
}

#[tokio::test]
async fn redis_over_tls_keeps_buckets_and_must_be_signed_by_the_authority() {
    let authority = Authority::new("redis").unwrap();
    let server = Server::with_tls(&authority).unwrap();
    let url = format!("rediss://localhost:{}", server.port);
    let trusted_ca = Some(authority.pem().as_bytes().to_vec());
    let settings = RedisSettings { trusted_ca, ..redis(std::slice::from_ref(&url), Topology::Single) };
    facts(&open(&settings)).await;
    let other = Authority::new("another").unwrap().pem().as_bytes().to_vec();
    let settings = RedisSettings { trusted_ca: Some(other), ..redis(&[url], Topology::Single) };
    assert!(open(&settings).apply(&[one()]).await.is_err());
}

#[tokio::test]
async fn a_redis_cluster_keeps_buckets() {
    let cluster = Cluster::start().unwrap();
    let urls: Vec<String> =
        cluster.nodes.iter().map(|node| format!("redis://127.0.0.1:{}", node.port)).collect();
    let store = open(&redis(&urls, Topology::Cluster));
    facts(&store).await;
    // Buckets of all nodes in one batch.
    let batch: Vec<Operation> = (0..200).map(|name| Operation { bucket: bucket(name), ..one() }).collect();
    assert!(store.apply(&batch).await.unwrap().iter().all(|outcome| outcome.taken == 1));
    for node in &cluster.nodes {
        let size: u64 = node.command(&["DBSIZE"]).unwrap().trim().parse().unwrap();
        assert!(size > 20, "{size} keys on {}", node.port);
    }
}

#[tokio::test]
async fn behind_sentinels_the_new_master_is_found() {
    let guarded = Guarded::start().unwrap();
    let urls: Vec<String> =
        guarded.sentinels.iter().map(|node| format!("redis://127.0.0.1:{}", node.port)).collect();
    let store = open(&redis(&urls, Topology::Sentinel { master: MASTER.into() }));
    facts(&store).await;
    let (id, replica) = (bucket(6), &guarded.servers[1]);
    let take = Operation { bucket: id, kind: Kind::UpTo, tokens: 10, limit: limit(1, 3_600, 10) };
    assert_eq!(store.apply(&[take]).await.unwrap()[0].taken, 10);
    tollgate_tests::wait::wait_until("the replica to have it", Duration::from_secs(10), || {
        tollgate_tests::wait::holds(
            replica.command(&["EXISTS", &format!("tollgate:quota:{{{}}}", hex(id))])?.trim() == "1",
        )
    })
    .unwrap();
    guarded.servers[0].kill().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let outcome = loop {
        match store.apply(&[take]).await {
            Ok(outcomes) => break outcomes[0],
            Err(error) => assert!(std::time::Instant::now() < deadline, "no new master: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(outcome.taken, 0, "what was replicated is still debited");
    assert!(replica.command(&["INFO", "replication"]).unwrap().contains("role:master"));
}

#[tokio::test]
async fn a_credit_that_is_sent_twice_is_done_once() {
    let server = Server::durable().unwrap();
    let store = open(&redis(&[format!("redis://127.0.0.1:{}", server.port)], Topology::Single));
    let operation = |kind, tokens| Operation { bucket: [9; 16], kind, tokens, limit: limit(1, 3_600, 10) };
    let batch = [
        operation(Kind::UpTo, 10),
        operation(Kind::Credit(77), 3),
        operation(Kind::Credit(77), 3),
        operation(Kind::UpTo, 10),
    ];
    let outcomes = store.apply(&batch).await.unwrap();
    assert_eq!(outcomes[3].taken, 3);
}

#[tokio::test]
async fn a_redis_that_went_and_came_is_found_again_and_forgot_nothing() {
    let server = Server::durable().unwrap();
    let url = format!("redis://127.0.0.1:{}", server.port);
    let settings = RedisSettings { timeout: Duration::from_millis(500), ..redis(&[url], Topology::Single) };
    let store = open(&settings);
    let take = Operation { limit: limit(1, 3_600, 10), tokens: 10, ..one() };
    assert_eq!(store.apply(&[take]).await.unwrap()[0].taken, 10);
    server.kill().unwrap();
    let error = store.apply(&[take]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    server.run().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let outcomes = loop {
        match store.apply(&[take]).await {
            Ok(outcomes) => break outcomes,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(outcomes[0].taken, 0);
}

#[tokio::test]
async fn every_key_expires_once_its_bucket_is_full() {
    let server = Server::durable().unwrap();
    let store = open(&redis(&[format!("redis://127.0.0.1:{}", server.port)], Topology::Single));
    store.apply(&[Operation { limit: limit(10, 1, 20), tokens: 20, ..one() }]).await.unwrap();
    let keys = server.command(&["KEYS", "*"]).unwrap();
    let ttl: u64 = server.command(&["PTTL", keys.trim()]).unwrap().trim().parse().unwrap();
    assert!((1_000..=3_001).contains(&ttl), "{ttl}");
}

#[test]
fn settings_that_make_no_sense_are_refused_without_showing_a_url() {
    let two = ["redis://:secret@a:1".to_owned(), "redis://:secret@b:1".to_owned()];
    for settings in [
        redis(&[], Topology::Single),
        redis(&two, Topology::Single),
        redis(&["http://:secret@a:1".into()], Topology::Single),
        redis(&["rediss://:secret@a:1/#insecure".into()], Topology::Single),
        redis(&["redis+unix:///secret".into()], Topology::Cluster),
    ] {
        let error = Redis::new(&settings).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
    let shown = format!("{:?}", redis(&two, Topology::Cluster));
    assert!(!shown.contains("secret"), "{shown}");
}

fn one() -> Operation {
    Operation { bucket: [3; 16], kind: Kind::UpTo, tokens: 1, limit: limit(10, 1, 10) }
}

fn hex(id: BucketId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
