//! Any bytes as a request's headers: nobody passes whose credential is not known, and what a client says of its own
//! identity never goes on.
#![no_main]

use std::cell::LazyCell;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tollgate_filter_core::auth::{Authenticator, Decision};
use tollgate_filter_core::headers::{decode, is_same_name};
use tollgate_filter_core::signature::{Hash, HostFailure, HostVerifier};

struct Never;

impl HostVerifier for Never {
    fn verify(&self, _: Hash, _: &[u8], _: &[u8], _: &[u8]) -> Result<bool, HostFailure> {
        Ok(false)
    }
}

const CONFIGURATION: &str = r#"{"trust_identity_headers":false,"claim_headers":["x-org"],"policies":{"p":{"realm":"r","optional":false,"on_failure":"deny","any_of":[
    {"jwt":{"issuer":"i","audiences":[],"algorithms":["RS256"],"jwks":{"keys":[]},"clock_skew_seconds":0,
        "header":"authorization","prefix":"Bearer ","required_scopes":[],"required_claims":[],"claims_to_headers":[],"forward":false}},
    {"api_key":{"header":"x-api-key","keys":[{"sha256":"0000000000000000000000000000000000000000000000000000000000000000",
        "consumer":"c","id":"k"}],"introspection":null,"forward":false}}]}}}"#;

thread_local! {
    static AUTHENTICATOR: LazyCell<Authenticator> =
        LazyCell::new(|| Authenticator::from_json(CONFIGURATION.as_bytes(), 1).expect("a configuration"));
}

fuzz_target!(|bytes: &[u8]| {
    let Some(headers) = decode(bytes) else { return };
    let now = Duration::from_secs(1_700_000_000);
    AUTHENTICATOR.with(|authenticator| {
        let guarded = authenticator.decide(Some("p".into()), &headers, now, &Never);
        assert!(matches!(guarded, Decision::Deny(_)), "{guarded:?}");
        let Decision::Allow(allowed) = authenticator.decide(None, &headers, now, &Never) else {
            panic!("an open route refuses")
        };
        for (name, _) in &headers {
            let forged = [&b"x-consumer-id"[..], b"x-credential-type", b"x-credential-id", b"x-org"]
                .iter()
                .any(|identity| is_same_name(identity, name));
            assert_eq!(forged, allowed.remove.contains(name));
        }
    });
});
