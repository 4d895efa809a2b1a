//! The protocol, `envoy.service.ratelimit.v3.RateLimitService`: descriptors in, operations on the store, statuses out.
//!
//! | a descriptor | means |
//! |---|---|
//! | with `("policy", NAME)` | the bucket that all entries together name, with the limit of that global policy |
//! | with a `limit` override | the same, with that limit; its burst is one unit's requests |
//! | with neither | no limit: OK without `current_limit`, as other services do |
//! | plain | takes `hits_addend` tokens (1 if left out), all or none; what Envoy's own filter sends |
//! | with `("lease", MS)` | takes up to `hits_addend` tokens; `quota` says how many, and until when |
//! | with `is_negative_hits` | gives `hits_addend` unused tokens back |
//!
//! Several descriptors are one batch. Each is debited on its own: one that is over its limit gives the others nothing back,
//! so a batch errs on the strict side.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, Quota, RateLimit, quota::ExpirationSpecifier,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
use tokio::sync::{Semaphore, watch};
use tollgate_filter_core::quota::MAX_TOKENS;
use tonic::{Request, Response, Status};

use super::bucket_id::{LEASE, POLICY, bucket_id};
use super::limits::Known;
use super::store::{Kind, MAX_BATCH, Operation, Outcome, Store, StoreError};
use super::{Counters, Limits, QuotaStatus};
use crate::proto_time;

/// Largest request in bytes.
const REQUEST_BYTES: usize = 1 << 20;
/// Entries of a descriptor at most.
const MAX_ENTRIES: usize = 64;
/// Requests under way at most; more are refused, so that a slow store costs no memory.
const MAX_REQUESTS: usize = 1_024;
/// How long a lease may be, in milliseconds.
const LEASE_MS: std::ops::RangeInclusive<u64> = 10..=600_000;

/// The service. Clones are the same.
#[derive(Debug, Clone)]
pub struct QuotaService {
    store: Arc<Store>,
    limits: watch::Receiver<Arc<Limits>>,
    counters: Counters,
    status: QuotaStatus,
    requests: Arc<Semaphore>,
}

/// What one descriptor asks for.
struct Asked {
    /// `None` where no limit is known for it.
    known: Option<Known>,
    /// How long, in milliseconds, if it is for a lease.
    lease: Option<u64>,
    kind: Kind,
    tokens: u64,
}

impl QuotaService {
    /// Serves `limits` out of `store`.
    pub fn new(store: Store, limits: watch::Receiver<Arc<Limits>>, counters: Counters) -> Self {
        let status = QuotaStatus::new(&store.describe(), counters.clone());
        let requests = Arc::new(Semaphore::new(MAX_REQUESTS));
        Self { store: Arc::new(store), limits, counters, status, requests }
    }

    /// The gRPC service.
    pub fn into_server(self) -> RateLimitServiceServer<Self> {
        RateLimitServiceServer::new(self).max_decoding_message_size(REQUEST_BYTES)
    }

    /// How it stands.
    pub fn status(&self) -> QuotaStatus {
        self.status.clone()
    }

    async fn answer(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Status> {
        if request.descriptors.len() > MAX_BATCH {
            return Err(Status::invalid_argument(format!("more than {MAX_BATCH} descriptors")));
        }
        let Ok(_permit) = self.requests.try_acquire() else {
            return Err(Status::resource_exhausted("too many requests are under way"));
        };
        let limits = Arc::clone(&self.limits.borrow());
        let asked: Vec<Asked> = request
            .descriptors
            .iter()
            .map(|descriptor| ask(descriptor, request.hits_addend, &limits))
            .collect::<Result<_, _>>()?;
        let batch: Vec<Operation> = asked
            .iter()
            .zip(&request.descriptors)
            .filter_map(|(asked, descriptor)| {
                let limit = asked.known?.limit;
                let bucket = bucket_id(&request.domain, &descriptor.entries);
                Some(Operation { bucket, kind: asked.kind, tokens: asked.tokens, limit })
            })
            .collect();
        let outcomes = self.apply(&batch).await.map_err(|_| {
            // Why is in the log and the status page; a peer need not know what stands behind.
            Status::unavailable("the quota store does not answer")
        })?;
        let mut outcomes = outcomes.into_iter();
        let statuses: Vec<DescriptorStatus> = asked
            .iter()
            .map(|asked| match asked.known {
                Some(known) => outcomes.next().map(|outcome| self.status_of(asked, known, &outcome)),
                None => None,
            })
            .map(|status| {
                status.unwrap_or_else(|| {
                    self.counters.unknown.inc();
                    DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() }
                })
            })
            .collect();
        let over = statuses.iter().any(|status| status.code == i32::from(Code::OverLimit));
        // A lease of a single descriptor is the whole request's too.
        let quota = match statuses.as_slice() {
            [only] => only.quota.clone(),
            _ => None,
        };
        let overall_code = if over { Code::OverLimit } else { Code::Ok }.into();
        Ok(RateLimitResponse { overall_code, statuses, quota, ..RateLimitResponse::default() })
    }

    async fn apply(&self, batch: &[Operation]) -> Result<Vec<Outcome>, StoreError> {
        let started = Instant::now();
        let outcomes = self.store.apply(batch).await;
        self.counters.stored(started.elapsed());
        if outcomes.is_err() {
            self.counters.store_errors.inc();
        }
        self.status.note(outcomes.as_ref().err().map(ToString::to_string));
        outcomes
    }

    fn status_of(&self, asked: &Asked, known: Known, outcome: &Outcome) -> DescriptorStatus {
        let granted = match asked.kind {
            Kind::UpTo => outcome.taken > 0,
            Kind::Whole => outcome.taken == asked.tokens,
            Kind::Credit(_) => true,
        };
        match asked.kind {
            Kind::Credit(_) => self.counters.returned.inc_by(asked.tokens),
            _ => self.counters.granted.inc_by(outcome.taken),
        }
        if !granted {
            self.counters.denials.inc();
        }
        let standing = known.limit.standing(outcome.state, outcome.now);
        let quota = asked.lease.filter(|_| outcome.taken > 0).map(|ms| Quota {
            requests: u32::try_from(outcome.taken).unwrap_or(u32::MAX),
            id: String::new(),
            expiration_specifier: Some(ExpirationSpecifier::ValidUntil(proto_time::timestamp(
                UNIX_EPOCH + Duration::from_micros(outcome.now) + Duration::from_millis(ms),
            ))),
        });
        DescriptorStatus {
            code: if granted { Code::Ok } else { Code::OverLimit }.into(),
            current_limit: Some(current_limit(known)),
            limit_remaining: u32::try_from(standing.remaining).unwrap_or(u32::MAX),
            duration_until_reset: Some(proto_time::duration(if granted {
                standing.reset
            } else {
                standing.retry_after
            })),
            quota,
        }
    }
}

#[tonic::async_trait]
impl RateLimitService for QuotaService {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let answer = self.answer(request.get_ref()).await;
        let result = match &answer {
            Ok(response) if response.overall_code == i32::from(Code::OverLimit) => "over_limit",
            Ok(_) => "ok",
            Err(status) if status.code() == tonic::Code::Unavailable => "unavailable",
            Err(_) => "refused",
        };
        self.counters.requests.with_label_values(&[result]).inc();
        answer.map(Response::new)
    }
}

fn ask(descriptor: &RateLimitDescriptor, hits: u32, limits: &Limits) -> Result<Asked, Status> {
    if descriptor.entries.len() > MAX_ENTRIES {
        return Err(Status::invalid_argument(format!("a descriptor has more than {MAX_ENTRIES} entries")));
    }
    let value_of = |key: &str| descriptor.entries.iter().find(|entry| entry.key == key);
    let known = match descriptor.limit {
        Some(limit) => {
            let period = RateLimitUnit::try_from(limit.unit).ok().and_then(unit_period);
            let requests = u64::from(limit.requests_per_unit);
            let known = period.and_then(|period| Known::new(requests, period, requests));
            Some(
                known
                    .ok_or_else(|| Status::invalid_argument("the limit override has no requests or unit"))?,
            )
        }
        None => value_of(POLICY).and_then(|entry| limits.get(&entry.value)).copied(),
    };
    let lease = match value_of(LEASE) {
        Some(entry) => {
            let ms = entry.value.parse().ok().filter(|ms| LEASE_MS.contains(ms));
            Some(ms.ok_or_else(|| {
                Status::invalid_argument("`lease` is not between 10 and 600000 milliseconds")
            })?)
        }
        None => None,
    };
    let tokens = match &descriptor.hits_addend {
        Some(hits) => hits.value,
        None => u64::from(hits.max(1)),
    };
    let kind = match (descriptor.is_negative_hits, lease) {
        (true, _) => Kind::Credit(random()?),
        (false, Some(_)) => Kind::UpTo,
        (false, None) => Kind::Whole,
    };
    if kind == Kind::Whole && tokens > MAX_TOKENS {
        return Err(Status::invalid_argument(format!("`hits_addend` is above {MAX_TOKENS}")));
    }
    let lease = lease.filter(|_| kind == Kind::UpTo);
    Ok(Asked { known, lease, kind, tokens: tokens.min(MAX_TOKENS) })
}

fn random() -> Result<u64, Status> {
    getrandom::u64().map_err(|_| Status::internal("no random number"))
}

fn current_limit(known: Known) -> RateLimit {
    let unit = [
        (1, Unit::Second),
        (60, Unit::Minute),
        (3_600, Unit::Hour),
        (86_400, Unit::Day),
        (7 * 86_400, Unit::Week),
        (30 * 86_400, Unit::Month),
        (365 * 86_400, Unit::Year),
    ]
    .into_iter()
    .find(|(seconds, _)| known.period == Duration::from_secs(*seconds))
    .map_or(Unit::Unknown, |(_, unit)| unit);
    RateLimit {
        name: String::new(),
        requests_per_unit: u32::try_from(known.requests).unwrap_or(u32::MAX),
        unit: unit.into(),
    }
}

fn unit_period(unit: RateLimitUnit) -> Option<Duration> {
    let seconds = match unit {
        RateLimitUnit::Unknown => return None,
        RateLimitUnit::Second => 1,
        RateLimitUnit::Minute => 60,
        RateLimitUnit::Hour => 3_600,
        RateLimitUnit::Day => 86_400,
        RateLimitUnit::Month => 30 * 86_400,
        RateLimitUnit::Year => 365 * 86_400,
    };
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
