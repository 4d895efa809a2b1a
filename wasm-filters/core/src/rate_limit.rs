//! How often a caller may call: the decision of the rate-limit filter.
//!
//! Policies compiled, the key of a request, the bucket taken from shared slots, the response and its
//! headers. What the host knows (headers, address, shared data) comes through two traits, so that the rules
//! run natively in tests, with several workers at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tollgate_filter_config::{KeyPart, RateLimitConfig, RateLimitPolicy};

use crate::bucket::{Bucket, Outcome};
use crate::headers as names;
use crate::problem::{LocalResponse, whole_seconds};
use crate::slots::{Evicted, Place, Slot};
use crate::{ConfigError, config_error};

mod fields;
#[cfg(test)]
mod tests;

pub use fields::Fields;

/// How often a slot is tried before giving up. A try is lost only when another worker wrote the same slot in
/// the microsecond between, so with any number of workers this is far more than ever happens.
const MAX_TRIES: usize = 64;

/// The rate-limit filter's configuration, compiled.
#[derive(Debug)]
pub struct Limiter {
    policies: BTreeMap<String, Policy>,
}

/// One policy.
#[derive(Debug)]
pub struct Policy {
    name: String,
    key: Vec<KeyPart>,
    bucket: Bucket,
    fields: Rc<Fields>,
}

/// What a key may be made of; each is read only when a policy needs it.
pub trait KeySource {
    /// Who is calling, as the auth filter found out; `None` where nobody is known.
    fn consumer(&self) -> Option<Cow<'_, [u8]>>;
    /// Every value of a request header, in order, as the auth filter left them.
    fn header(&self, name: &str) -> Vec<Cow<'_, [u8]>>;
    /// The client's address as Envoy writes it, `127.0.0.1:4242` or `[::1]:4242`; empty if unknown.
    fn client_address(&self) -> Vec<u8>;
    /// Name of the route; empty if it has none.
    fn route_name(&self) -> Vec<u8>;
}

/// The slots that all workers share.
pub trait SharedSlots {
    /// The bytes of a slot and their version, for [`Self::write`]. A slot that was never written is empty.
    fn read(&self, slot: usize) -> Result<(Vec<u8>, Option<u32>), HostFailure>;
    /// Writes a slot if its version is still `version`; `false` if another worker was faster.
    fn write(&self, slot: usize, bytes: &[u8], version: Option<u32>) -> Result<bool, HostFailure>;
}

/// The host could not read or write a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host could not reach its shared data")]
pub struct HostFailure;

/// What happens to a request under a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes on; its response says so.
    Allow(Quota, Evicted),
    /// It is over the limit.
    Limit(LocalResponse),
    /// It cannot be counted, so it does not pass.
    Unavailable(LocalResponse),
}

/// What is left to a caller, for the headers of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    fields: Rc<Fields>,
    remaining: u64,
    reset: Duration,
}

impl Quota {
    /// Gives each header: its name, lower case, and its value.
    pub fn headers(&self, give: impl FnMut(&'static str, &str)) {
        self.fields.each(self.remaining, self.reset, give);
    }
}

impl Limiter {
    /// Reads and checks a plugin configuration.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        Self::new(&config_error::parse(json)?)
    }

    /// Checks a configuration.
    pub fn new(config: &RateLimitConfig) -> Result<Self, ConfigError> {
        let policies = config
            .policies
            .iter()
            .map(|(name, policy)| Ok((name.clone(), Policy::new(name, policy)?)))
            .collect::<Result<_, ConfigError>>()?;
        Ok(Self { policies })
    }

    /// Decides on a request on a route with `policy`. `seed` must be the same in all workers.
    pub fn decide(
        &self,
        policy: &str,
        request: &dyn KeySource,
        slots: &dyn SharedSlots,
        seed: u64,
        now: Duration,
    ) -> Decision {
        let Some(policy) = self.policies.get(policy) else {
            let detail = "the route's rate limit policy is not known here yet";
            return unavailable("unknown_policy", detail);
        };
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        match take(&policy.bucket, slots, Place::of(&policy.key(request), seed), now) {
            Ok((outcome, evicted)) if outcome.allowed => Decision::Allow(policy.quota(&outcome), evicted),
            Ok((outcome, _)) => Decision::Limit(policy.limited(&outcome)),
            Err(HostFailure) => unavailable("counter_unavailable", "the request cannot be counted now"),
        }
    }
}

impl Policy {
    fn new(name: &str, config: &RateLimitPolicy) -> Result<Self, ConfigError> {
        let refuse =
            |field: &str, reason: &str| Err(ConfigError::new(format!("policies.{name}.{field}"), reason));
        for (index, part) in config.key.iter().enumerate() {
            if matches!(part, KeyPart::Header(header) if !names::is_valid_name(header)) {
                return refuse(&format!("key[{index}].header"), "is not a lower-case header name");
            }
        }
        for (field, value) in
            [("limit", config.limit), ("period_ms", config.period_ms), ("burst", config.burst)]
        {
            if value == 0 {
                return refuse(field, "is 0");
            }
        }
        let period = Duration::from_millis(config.period_ms);
        let Some(bucket) = Bucket::new(config.limit, period, config.burst) else {
            return refuse("limit", "makes no bucket");
        };
        let fields = Rc::new(Fields::new(name, config.limit, period));
        Ok(Self { name: name.to_owned(), key: config.key.clone(), bucket, fields })
    }

    /// The bucket's key: the policy's name and each part, with lengths, so that no two requests that differ
    /// in a part have one key.
    fn key(&self, request: &dyn KeySource) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        push(&mut key, b'n', self.name.as_bytes());
        for part in &self.key {
            match part {
                KeyPart::Consumer => match request.consumer() {
                    Some(consumer) if !consumer.is_empty() => push(&mut key, b'c', &consumer),
                    _ => push(&mut key, b'a', without_port(&request.client_address())),
                },
                KeyPart::ClientAddress => push(&mut key, b'a', without_port(&request.client_address())),
                KeyPart::Route => push(&mut key, b'r', &request.route_name()),
                KeyPart::Header(name) => {
                    let values = request.header(name);
                    push(&mut key, b'h', &(values.len() as u64).to_le_bytes());
                    values.iter().for_each(|value| push(&mut key, b'v', value));
                }
            }
        }
        key
    }

    fn limited(&self, outcome: &Outcome) -> LocalResponse {
        let mut response = LocalResponse::problem(
            429,
            "rate_limited",
            "too many requests; try again after the time in Retry-After",
        )
        .with_header("retry-after", whole_seconds(outcome.retry_after).to_string());
        self.quota(outcome).headers(|name, value| response.headers.push((name, value.to_owned())));
        response
    }

    fn quota(&self, outcome: &Outcome) -> Quota {
        Quota { fields: Rc::clone(&self.fields), remaining: outcome.remaining, reset: outcome.reset }
    }
}

/// Takes one token from the bucket at `place`, exactly once whatever the other workers do: the slot is
/// written only if it is still what was read.
fn take(
    bucket: &Bucket,
    slots: &dyn SharedSlots,
    place: Place,
    now: u64,
) -> Result<(Outcome, Evicted), HostFailure> {
    for _ in 0..MAX_TRIES {
        let (bytes, version) = slots.read(place.slot)?;
        let mut slot = Slot::new(bytes);
        let tat = slot.tat(place.fingerprint);
        let outcome = bucket.take(tat, now);
        if outcome.tat == tat {
            // Nothing to write: a refused request costs nothing.
            return Ok((outcome, Evicted::Nothing));
        }
        let evicted = slot.put(place.fingerprint, outcome.tat, now);
        if slots.write(place.slot, slot.as_bytes(), version)? {
            return Ok((outcome, evicted));
        }
    }
    Err(HostFailure)
}

fn unavailable(code: &str, detail: &str) -> Decision {
    Decision::Unavailable(LocalResponse::unavailable(code, detail, Duration::from_secs(1)))
}

fn push(key: &mut Vec<u8>, tag: u8, part: &[u8]) {
    key.push(tag);
    key.extend_from_slice(&(part.len() as u64).to_le_bytes());
    key.extend_from_slice(part);
}

/// `127.0.0.1:4242` without `:4242`, `[::1]:4242` as `[::1]`. Other addresses (a Unix socket's path) as they
/// are.
fn without_port(address: &[u8]) -> &[u8] {
    match address.iter().rposition(|byte| *byte == b':').and_then(|colon| address.split_at_checked(colon)) {
        Some((host, port)) if port.get(1..).is_some_and(|port| port.iter().all(u8::is_ascii_digit)) => host,
        _ => address,
    }
}
