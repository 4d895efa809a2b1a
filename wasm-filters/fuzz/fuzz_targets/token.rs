//! Any text as a token: it is refused unless it is signed, whatever it says of itself. The first byte chooses between the
//! whole token and its claims, which then get a header and a signature that does not hold.
#![no_main]

use std::cell::LazyCell;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tollgate_filter_core::auth::{Authenticator, Decision};
use tollgate_filter_core::jwt::Jwt;
use tollgate_filter_core::signature::{Hash, HostFailure, HostVerifier};

struct Never;

impl HostVerifier for Never {
    fn verify(&self, _: Hash, _: &[u8], _: &[u8], _: &[u8]) -> Result<bool, HostFailure> {
        Ok(false)
    }
}

const CONFIGURATION: &str = r#"{"trust_identity_headers":false,"claim_headers":[],"policies":{"p":{"realm":"r","optional":false,"on_failure":"deny","any_of":[
    {"jwt":{"issuer":"i","audiences":["a"],"algorithms":["RS256","HS256","HS512"],"jwks":{"keys":[
        {"kty":"oct","kid":"h","k":"c2VjcmV0IHRoYXQgbm8gZnV6emVyIGZpbmRzLCBvZiBzaXh0eS1mb3VyIGJ5dGVzIGluIGFsbC4uLi4uLi4u"},
        {"kty":"RSA","kid":"r","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]},
        "clock_skew_seconds":5,"header":"authorization","prefix":"Bearer ","required_scopes":["s"],"required_claims":[],
        "claims_to_headers":[{"claim":"a.b","header":"x-b"}],"forward":false}}]}}}"#;

thread_local! {
    static AUTHENTICATOR: LazyCell<Authenticator> =
        LazyCell::new(|| Authenticator::from_json(CONFIGURATION.as_bytes(), 1).expect("a configuration"));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let token = match choice % 4 {
        0 => rest.to_vec(),
        1 => [b"eyJhbGciOiJIUzI1NiJ9.", base64url(rest).as_bytes(), b".AAAA"].concat(),
        2 => [b"eyJhbGciOiJSUzI1NiJ9.", base64url(rest).as_bytes(), b".AAAA"].concat(),
        _ => [base64url(rest).as_bytes(), b".e30.AAAA"].concat(),
    };
    let _ = Jwt::parse(&token);
    let value = [b"Bearer ", token.as_slice()].concat();
    let headers = [(&b"authorization"[..], value.as_slice())];
    AUTHENTICATOR.with(|authenticator| {
        let decision = authenticator.decide(Some("p".into()), &headers, Duration::from_secs(1_700_000_000), &Never);
        assert!(matches!(decision, Decision::Deny(_)), "{decision:?}");
    });
});

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain([&0; 3]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        text.extend((0..=chunk.len()).map(|digit| char::from(DIGITS[bits >> (18 - 6 * digit) & 63])));
    }
    text
}
