//! A refill as bytes: `RateLimitRequest` out, `RateLimitResponse` in (envoy.service.ratelimit.v3).
//!
//! Written by hand, as it is a dozen fields and the filter's code is fetched by every Envoy. What the service makes of it
//! is in xds-server's `quota::service`; a test there reads these bytes with the generated types.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Answer, Refill, Tokens};

/// Name of the service.
pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
/// Name of its method.
pub const METHOD: &str = "ShouldRateLimit";
/// The domain of all buckets that filters ask for.
pub const DOMAIN: &str = "tollgate";

/// `:authority` of the calls.
pub const AUTHORITY: &str = "tollgate-quota";

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// `OK` and `OVER_LIMIT` of `RateLimitResponse.Code`.
const OK: u64 = 1;
const OVER_LIMIT: u64 = 2;

/// An `envoy.config.core.v3.GrpcService` that leads to a cluster. By its name alone, the name would be the call's
/// `:authority`, too; names of ours hold a slash, which a server refuses there.
pub fn upstream(cluster: &str) -> Vec<u8> {
    let mut envoy_grpc = Vec::new();
    bytes(&mut envoy_grpc, 1, cluster.as_bytes());
    bytes(&mut envoy_grpc, 2, AUTHORITY.as_bytes());
    let mut out = Vec::new();
    bytes(&mut out, 1, &envoy_grpc);
    out
}

/// The request of a refill: its returns, then its asks.
pub fn request(refill: &Refill) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 * refill.asks.len().saturating_add(refill.returns.len()));
    bytes(&mut out, 1, DOMAIN.as_bytes());
    for tokens in &refill.returns {
        let mut descriptor = descriptor(tokens);
        field(&mut descriptor, 4, VARINT);
        varint(&mut descriptor, 1);
        bytes(&mut out, 2, &descriptor);
    }
    for tokens in &refill.asks {
        let mut descriptor = descriptor(tokens);
        entry(&mut descriptor, "lease", &(tokens.terms.lease / 1_000_000).to_string());
        bytes(&mut out, 2, &descriptor);
    }
    out
}

/// What a response says to each return and ask, in order; `None` where it can't be read.
pub fn answers(response: &[u8]) -> Option<Vec<Answer>> {
    let mut answers = Vec::new();
    read(response, &mut |number, value| {
        if let (2, Value::Bytes(status)) = (number, value) {
            answers.push(answer(status)?);
        }
        Some(())
    })?;
    Some(answers)
}

fn answer(status: &[u8]) -> Option<Answer> {
    let (mut code, mut remaining, mut wait, mut granted, mut known) = (0, 0, Duration::ZERO, 0, false);
    read(status, &mut |number, value| {
        match (number, value) {
            (1, Value::Varint(value)) => code = value,
            (2, Value::Bytes(_)) => known = true,
            (3, Value::Varint(value)) => remaining = value,
            (4, Value::Bytes(duration)) => wait = self::duration(duration)?,
            (5, Value::Bytes(quota)) => {
                read(quota, &mut |number, value| {
                    if let (1, Value::Varint(requests)) = (number, value) {
                        granted = requests;
                    }
                    Some(())
                })?;
            }
            _ => {}
        }
        Some(())
    })?;
    Some(match code {
        OK if granted > 0 => Answer::Granted { tokens: granted, remaining },
        OVER_LIMIT if known => Answer::Over(wait),
        _ => Answer::Unknown,
    })
}

fn duration(message: &[u8]) -> Option<Duration> {
    let (mut seconds, mut nanos) = (0, 0);
    read(message, &mut |number, value| {
        match (number, value) {
            (1, Value::Varint(value)) => seconds = value,
            (2, Value::Varint(value)) => nanos = value,
            _ => {}
        }
        Some(())
    })?;
    // Negative ones come as numbers beyond any sense.
    let seconds = i64::try_from(seconds).ok()?;
    Some(Duration::from_secs(u64::try_from(seconds).ok()?).saturating_add(Duration::from_nanos(nanos)))
}

fn descriptor(tokens: &Tokens) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut out = Vec::with_capacity(128);
    entry(&mut out, "policy", &tokens.terms.policy);
    // Keys may hold any bytes, and who somebody is; the service needs to know neither.
    let mut digest = String::with_capacity(32);
    for byte in &Sha256::digest(&tokens.key)[..16] {
        let _ = write!(digest, "{byte:02x}");
    }
    entry(&mut out, "key", &digest);
    let mut hits = Vec::with_capacity(8);
    field(&mut hits, 1, VARINT);
    varint(&mut hits, tokens.tokens);
    bytes(&mut out, 3, &hits);
    out
}

fn entry(out: &mut Vec<u8>, key: &str, value: &str) {
    let mut entry = Vec::with_capacity(key.len().saturating_add(value.len()).saturating_add(4));
    bytes(&mut entry, 1, key.as_bytes());
    bytes(&mut entry, 2, value.as_bytes());
    bytes(out, 1, &entry);
}

fn field(out: &mut Vec<u8>, number: u64, kind: u64) {
    varint(out, number << 3 | kind);
}

fn bytes(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    field(out, number, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Calls `each` with every field of a message; `None` where it is broken, or `each` says so.
fn read<'a>(mut message: &'a [u8], each: &mut dyn FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    while !message.is_empty() {
        let tag = read_varint(&mut message)?;
        let value = match tag & 7 {
            VARINT => Value::Varint(read_varint(&mut message)?),
            BYTES => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                let (value, rest) = message.split_at_checked(length)?;
                message = rest;
                Value::Bytes(value)
            }
            kind @ (FIXED64 | FIXED32) => {
                message = message.get(if kind == FIXED64 { 8 } else { 4 }..)?;
                Value::Other
            }
            _ => return None,
        };
        each(tag >> 3, value)?;
    }
    Some(())
}

fn read_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_read() {
        let mut quota = Vec::new();
        field(&mut quota, 1, VARINT);
        varint(&mut quota, 300);
        let mut granted = vec![8, 1];
        bytes(&mut granted, 5, &quota);
        field(&mut granted, 3, VARINT);
        varint(&mut granted, 70_000);
        let over = [&[8, 2, 18, 0, 34, 5, 8, 3, 16, 200, 1][..]].concat();
        let mut response = vec![8, 1];
        for status in [&granted[..], &over[..], &[8, 1], &[8, 2]] {
            bytes(&mut response, 2, status);
        }
        let over = Answer::Over(Duration::from_secs(3) + Duration::from_nanos(200));
        let expected =
            [Answer::Granted { tokens: 300, remaining: 70_000 }, over, Answer::Unknown, Answer::Unknown];
        assert_eq!(answers(&response).unwrap(), expected);
        assert_eq!(answers(&response[..response.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = answers(&bytes);
        }
    }
}
