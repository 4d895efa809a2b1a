//! Facts of the protocol, over a real connection, on the store in memory.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use envoy_types::pb::google::protobuf::UInt64Value;
use prost::Message as _;
use std::time::SystemTime;
use tollgate_filter_core::lease::{Answer, Leases, Taken, Terms, wire};
use tonic::transport::Channel;

use super::*;
use crate::gateway::{SourceFile, load};
use crate::quota::{Memory, QuotaServer, Running, publish};

const YAML: &str = "version: v1
policies:
  rate_limit:
    five: { key: [], limit: 5/h, scope: global }
    plans: { key: [], limit: 2/h, scope: global, plans: { by: { claim: plan }, limits: { gold: { limit: 5/h } } } }
    many: { key: [], limit: 1000/h, burst: 500, scope: global }
    odd: { key: [], limit: 20/10s, scope: global }
    local: { key: [], limit: 5/h }
";

struct Service {
    client: RateLimitServiceClient<Channel>,
    counters: Counters,
    running: Option<Running>,
    _limits: watch::Sender<Arc<Limits>>,
}

async fn service() -> Service {
    serve(Store::Memory(Memory::default())).await
}

async fn serve(store: Store) -> Service {
    let (limits, known) = watch::channel(Arc::new(Limits::default()));
    let file = SourceFile { path: "g.yaml".into(), text: YAML.into() };
    publish(&limits, &load(vec![file]).unwrap().gateway);
    let counters = Counters::new().unwrap();
    let server = QuotaServer::bind("127.0.0.1:0".parse().unwrap(), store, known, counters.clone()).unwrap();
    let uri = format!("http://{}", server.address());
    let running = Some(server.start().unwrap());
    let client = RateLimitServiceClient::connect(uri).await.unwrap();
    Service { client, counters, running, _limits: limits }
}

impl Service {
    async fn ask(&mut self, descriptors: Vec<RateLimitDescriptor>) -> Result<RateLimitResponse, Status> {
        let request = RateLimitRequest { domain: "d".into(), descriptors, hits_addend: 0 };
        self.client.should_rate_limit(request).await.map(Response::into_inner)
    }

    async fn one(&mut self, descriptor: RateLimitDescriptor) -> DescriptorStatus {
        self.ask(vec![descriptor]).await.unwrap().statuses.remove(0)
    }
}

fn descriptor(entries: &[(&str, &str)], hits: Option<u64>) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).into(), value: (*value).into() };
    RateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        hits_addend: hits.map(|value| UInt64Value { value }),
        ..RateLimitDescriptor::default()
    }
}

#[tokio::test]
async fn single_requests_get_all_they_ask_for_or_nothing() {
    let mut service = service().await;
    let ask = |hits| descriptor(&[("policy", "five"), ("user", "a")], hits);
    for remaining in [4, 3] {
        let status = service.one(ask(None)).await;
        assert_eq!((status.code(), status.limit_remaining), (Code::Ok, remaining));
        let limit = status.current_limit.unwrap();
        assert_eq!((limit.requests_per_unit, limit.unit()), (5, Unit::Hour));
        assert_eq!(status.quota, None, "nobody asked for a lease");
    }
    let status = service.one(ask(Some(4))).await;
    assert_eq!((status.code(), status.limit_remaining), (Code::OverLimit, 3));
    assert_eq!(service.one(ask(Some(3))).await.code(), Code::Ok);
    let status = service.one(ask(None)).await;
    assert_eq!(status.code(), Code::OverLimit);
    let seconds = status.duration_until_reset.unwrap().seconds;
    assert!((715..=720).contains(&seconds), "a token comes back in {seconds} s");
    let other = service.one(descriptor(&[("policy", "five"), ("user", "b")], None)).await;
    assert_eq!((other.code(), other.limit_remaining), (Code::Ok, 4), "a bucket of its own");
    assert_eq!((service.counters.granted.get(), service.counters.denials.get()), (6, 2));
}

#[tokio::test]
async fn a_lease_is_what_there_is_and_unused_tokens_come_back() {
    let mut service = service().await;
    let lease = |hits| descriptor(&[("policy", "many"), ("lease", "2000")], Some(hits));
    let before = SystemTime::now();
    let response = service.ask(vec![lease(400)]).await.unwrap();
    let quota = response.statuses[0].quota.clone().unwrap();
    assert_eq!(response.quota.as_ref(), Some(&quota), "the one descriptor is the whole request");
    let Some(ExpirationSpecifier::ValidUntil(until)) = quota.expiration_specifier else {
        panic!("{quota:?}")
    };
    let until = UNIX_EPOCH + Duration::new(until.seconds as u64, until.nanos as u32);
    let valid = until.duration_since(before).unwrap();
    assert!(valid > Duration::from_millis(1_990) && valid < Duration::from_secs(8), "{valid:?}");
    assert_eq!(quota.requests, 400);
    assert_eq!(service.one(lease(400)).await.quota.unwrap().requests, 100);
    let status = service.one(lease(400)).await;
    assert_eq!((status.code(), status.quota), (Code::OverLimit, None));
    let back = RateLimitDescriptor { is_negative_hits: true, ..descriptor(&[("policy", "many")], Some(30)) };
    let response = service.ask(vec![back, lease(400)]).await.unwrap();
    assert_eq!(response.statuses[1].quota.as_ref().unwrap().requests, 30, "in order, in one call");
    assert_eq!(service.counters.returned.get(), 30);
}

#[tokio::test]
async fn plans_share_no_tokens() {
    let mut service = service().await;
    let ask = |policy, hits| descriptor(&[("policy", policy), ("key", "alice")], Some(hits));
    let own = service.one(ask("plans", 2)).await;
    assert_eq!((own.code(), own.limit_remaining), (Code::Ok, 0));
    let gold = service.one(ask("plans:gold", 4)).await;
    assert_eq!(
        (gold.code(), gold.limit_remaining),
        (Code::Ok, 1),
        "a bucket of its own, and a limit of its own"
    );
    assert_eq!(service.one(ask("plans", 1)).await.code(), Code::OverLimit);
    assert_eq!(service.one(ask("plans:tin", 1)).await.current_limit, None, "no such plan");
}

#[tokio::test]
async fn descriptors_without_a_known_limit_have_none() {
    let mut service = service().await;
    for entries in [&[("user", "a")][..], &[("policy", "nobody")], &[("policy", "local")], &[]] {
        let status = service.one(descriptor(entries, None)).await;
        assert_eq!(
            (status.code(), status.current_limit, status.quota),
            (Code::Ok, None, None),
            "{entries:?}"
        );
    }
    assert_eq!(service.counters.unknown.get(), 4);
    let response = service
        .ask(vec![descriptor(&[("policy", "nobody")], None), descriptor(&[("policy", "five")], Some(6))])
        .await
        .unwrap();
    assert_eq!(response.overall_code(), Code::OverLimit, "one that is over is enough");
    let unit = service.one(descriptor(&[("policy", "odd")], None)).await.current_limit.unwrap().unit();
    assert_eq!(unit, Unit::Unknown, "the protocol has no ten seconds");
}

#[tokio::test]
async fn an_override_is_a_limit() {
    let mut service = service().await;
    let ask = |unit: RateLimitUnit| RateLimitDescriptor {
        limit: Some(RateLimitOverride { requests_per_unit: 2, unit: unit.into() }),
        ..descriptor(&[("user", "a")], None)
    };
    for expected in [Code::Ok, Code::Ok, Code::OverLimit] {
        assert_eq!(service.one(ask(RateLimitUnit::Month)).await.code(), expected);
    }
    let error = service.ask(vec![ask(RateLimitUnit::Unknown)]).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let mut service = service().await;
    let bad = [
        vec![descriptor(&[("policy", "five"), ("lease", "soon")], None)],
        vec![descriptor(&[("policy", "five"), ("lease", "600001")], None)],
        vec![descriptor(&[("policy", "five")], Some(MAX_TOKENS + 1))],
        vec![descriptor(&[("a", "b"); MAX_ENTRIES + 1], None)],
        vec![RateLimitDescriptor::default(); MAX_BATCH + 1],
    ];
    for descriptors in bad {
        let error = service.ask(descriptors).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    }
    assert_eq!(service.counters.requests.with_label_values(&["refused"]).get(), 5);
    let huge = vec![descriptor(&[("a", &"b".repeat(REQUEST_BYTES))], None)];
    assert_eq!(service.ask(huge).await.unwrap_err().code(), tonic::Code::OutOfRange);
    assert_eq!(service.one(descriptor(&[("policy", "five")], None)).await.code(), Code::Ok, "it lives on");
}

#[tokio::test]
async fn a_store_that_is_away_is_told_and_shown() {
    let settings = crate::quota::RedisSettings {
        urls: vec!["redis://127.0.0.1:1".into()],
        topology: crate::quota::Topology::Single,
        username: None,
        password: None,
        trusted_ca: None,
        timeout: Duration::from_millis(200),
    };
    let (_limits, known) = watch::channel(Arc::new(Limits::default()));
    let store = Store::Redis(Box::new(crate::quota::Redis::new(&settings).unwrap()));
    let service = QuotaService::new(store, known, Counters::new().unwrap());
    let limit = Some(RateLimitOverride { requests_per_unit: 1, unit: RateLimitUnit::Second.into() });
    let ask = RateLimitDescriptor { limit, ..descriptor(&[], None) };
    let request = RateLimitRequest { descriptors: vec![ask], ..RateLimitRequest::default() };
    let error = service.should_rate_limit(Request::new(request)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    assert!(!error.message().contains("127.0.0.1"), "{error}");
    let shown = serde_json::to_value(service.status().show()).unwrap();
    assert!(shown["error"]["text"].is_string() && shown["store"] == "redis 127.0.0.1:1", "{shown}");
    assert_eq!(service.counters.store_errors.get(), 1);
}

/// The bytes that the filter writes and reads by hand are those of the protocol.
#[tokio::test]
async fn the_filters_refills_are_understood() {
    let mut service = service().await;
    let terms = Arc::new(Terms {
        policy: "many".into(),
        token: 3_600_000_000,
        burst: 500,
        cost: 1,
        lease: 2_000_000_000,
    });
    let mut leases = Leases::new(10, 1);
    let start = 1_800_000_000_000_000_000;
    assert_eq!(leases.take(b"\xff key", &terms, start), Taken::Wait);
    let refill = leases.refill(start, 1).unwrap();
    let request = RateLimitRequest::decode(wire::request(&refill).as_slice()).unwrap();
    assert_eq!(request.domain, wire::DOMAIN);
    let entries: Vec<&str> = request.descriptors[0].entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(entries, ["policy", "key", "lease"]);
    let response = service.client.should_rate_limit(request).await.unwrap().into_inner();
    let answers = wire::answers(&response.encode_to_vec()).unwrap();
    assert_eq!(answers, [Answer::Granted { tokens: 9, remaining: 491 }]);
    leases.answered(refill.id, &answers, start);
    assert!(matches!(leases.take(b"\xff key", &terms, start), Taken::Token(_)));

    let over = leases.refill(start + terms.lease, 1).unwrap();
    let request = RateLimitRequest::decode(wire::request(&over).as_slice()).unwrap();
    assert!(request.descriptors[0].is_negative_hits);
    service.client.should_rate_limit(request).await.unwrap();
    assert_eq!(service.counters.returned.get(), 8);
    let request = RateLimitRequest::decode(wire::request(&refill).as_slice()).unwrap();
    let response = service.client.should_rate_limit(request).await.unwrap().into_inner();
    let answers = wire::answers(&response.encode_to_vec()).unwrap();
    assert_eq!(answers, [Answer::Granted { tokens: 9, remaining: 490 }], "one token of the bucket was used");

    let all = descriptor(&[("policy", "five"), ("lease", "1000")], Some(9));
    let request =
        |descriptor| RateLimitRequest { descriptors: vec![descriptor], ..RateLimitRequest::default() };
    service.client.should_rate_limit(request(all.clone())).await.unwrap();
    let response = service.client.should_rate_limit(request(all)).await.unwrap().into_inner();
    let [Answer::Over(wait)] = wire::answers(&response.encode_to_vec()).unwrap()[..] else { panic!() };
    assert!(wait > Duration::from_secs(700) && wait <= Duration::from_secs(720), "{wait:?}");
}

#[tokio::test]
async fn it_ends_when_it_is_told_to() {
    let mut service = service().await;
    service.one(descriptor(&[("policy", "five")], None)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(20), service.running.take().unwrap().stop());
    stopped.await.unwrap().unwrap();
    assert!(service.ask(vec![descriptor(&[("policy", "five")], None)]).await.is_err());
}
