//! Which bucket a descriptor means.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use sha2::{Digest, Sha256};

use super::store::BucketId;

/// The descriptor's entry that names a policy of the YAML.
pub const POLICY: &str = "policy";
/// The descriptor's entry that asks for a lease: its value is how long, in milliseconds. It is no part of the bucket.
pub const LEASE: &str = "lease";

/// The bucket of these entries in this domain. SHA-256, as clients choose values: nobody can find another's bucket.
pub fn bucket_id(domain: &str, entries: &[Entry]) -> BucketId {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        // With lengths, so that no two differing descriptors read the same.
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(text.as_bytes());
    };
    part(domain);
    for entry in entries.iter().filter(|entry| entry.key != LEASE) {
        part(&entry.key);
        part(&entry.value);
    }
    let mut id = BucketId::default();
    id.copy_from_slice(&hash.finalize()[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str) -> Entry {
        Entry { key: key.into(), value: value.into() }
    }

    #[test]
    fn descriptors_that_differ_have_buckets_that_differ() {
        let ids = [
            bucket_id("d", &[entry("a", "b")]),
            bucket_id("e", &[entry("a", "b")]),
            bucket_id("d", &[entry("ab", "")]),
            bucket_id("d", &[entry("", "ab")]),
            bucket_id("d", &[entry("a", "b"), entry("a", "b")]),
            bucket_id("da", &[entry("", "b")]),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn leases_and_single_requests_share_a_bucket() {
        let plain = [entry(POLICY, "p"), entry("key", "k")];
        let lease = [entry(POLICY, "p"), entry("key", "k"), entry(LEASE, "1000")];
        assert_eq!(bucket_id("d", &plain), bucket_id("d", &lease));
    }
}
