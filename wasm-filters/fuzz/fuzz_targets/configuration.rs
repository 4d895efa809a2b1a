//! Any bytes as a plugin's configuration: it is taken or refused with a place, and a request under it is decided.
#![no_main]

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tollgate_filter_config::GatewayConfig;
use tollgate_filter_core::auth::Guard;
use tollgate_filter_core::parts::Parts;
use tollgate_filter_core::rate_limit::{KeySource, SharedSlots};
use tollgate_filter_core::signature::{Hash, HostVerifier};
use tollgate_filter_core::{rate_limit, signature};

struct Never;

impl HostVerifier for Never {
    fn verify(&self, _: Hash, _: &[u8], _: &[u8], _: &[u8]) -> Result<bool, signature::HostFailure> {
        Ok(false)
    }
}

struct Request;

impl KeySource for Request {
    fn consumer(&self) -> Option<Cow<'_, [u8]>> {
        Some(b"c".into())
    }
    fn claim(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        Some(b"v".into())
    }
    fn header(&self, _: &str) -> Vec<Cow<'_, [u8]>> {
        vec![b"v".into()]
    }
    fn client_address(&self) -> Vec<u8> {
        b"[::1]:1".to_vec()
    }
    fn route_name(&self) -> Vec<u8> {
        Vec::new()
    }
}

#[derive(Default)]
struct Slots(RefCell<HashMap<usize, Vec<u8>>>);

impl SharedSlots for Slots {
    fn read(&self, slot: usize) -> Result<(Vec<u8>, Option<u32>), rate_limit::HostFailure> {
        Ok((self.0.borrow().get(&slot).cloned().unwrap_or_default(), None))
    }
    fn write(&self, slot: usize, bytes: &[u8], _: Option<u32>) -> Result<bool, rate_limit::HostFailure> {
        self.0.borrow_mut().insert(slot, bytes.to_vec());
        Ok(true)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let parts = match Parts::gateway(bytes, 1) {
        Ok(parts) => parts,
        Err(error) => return assert!(!error.reason.is_empty()),
    };
    let config: GatewayConfig = serde_json::from_slice(bytes).expect("it was taken");
    let (Some(auth), Some(limiter)) = (&parts.auth, &parts.limiter) else { panic!("both are there") };
    let headers = [(&b"authorization"[..], &b"Bearer a.b.c"[..]), (b"x-api-key", b"k"), (b"x-consumer-id", b"c")];
    let required = config.auth.requirements.keys().map(|name| Some(name.as_str()));
    let required: Vec<_> = required.chain([None, Some("nobody's")]).collect();
    for policy in config.auth.policies.keys() {
        for requirement in &required {
            let guard = Guard { policy, requirement: *requirement };
            let _ = auth.decide(Some(guard), &headers, Duration::from_secs(1_700_000_000), &Never);
        }
    }
    let slots = Slots::default();
    for name in config.rate_limit.policies.keys() {
        for now in [0, 1, 1_700_000_000] {
            let _ = limiter.decide(name, &Request, &slots, 1, Duration::from_secs(now), None);
        }
    }
});
