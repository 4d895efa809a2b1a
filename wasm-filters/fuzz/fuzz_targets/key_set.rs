//! Any JSON as a key set: it is read or refused, keys that are read are for some algorithm, and none verifies a signature
//! of nothing. The host is asked with keys that are SubjectPublicKeyInfo, so a SEQUENCE.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_filter_config::Algorithm;
use tollgate_filter_core::jwks::KeySet;
use tollgate_filter_core::signature::{self, Hash, HostFailure, HostVerifier};

struct Never;

impl HostVerifier for Never {
    fn verify(&self, _: Hash, key: &[u8], _: &[u8], _: &[u8]) -> Result<bool, HostFailure> {
        assert_eq!(key.first(), Some(&0x30));
        Ok(false)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    let Ok(keys) = KeySet::parse(&value) else { return };
    for algorithm in Algorithm::ALL {
        let Ok(key) = keys.select(None, algorithm) else { continue };
        for signature in [&[][..], &[0; 32], &[0; 64], &[0; 96]] {
            assert_eq!(signature::verify(&Never, &key.material, algorithm, b"message", signature), Ok(false));
        }
    }
});
