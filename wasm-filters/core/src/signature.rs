//! Whether a signature holds.
//!
//! RS256 and ES256 go to the host, whose BoringSSL is some twenty times faster than the same in Wasm; EdDSA
//! and HS256, which the host cannot do, are done here. Which key to use is `jwks`.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::der;
use crate::jwks::KeyMaterial;

pub mod foreign;

/// What the host verifies for us: SHA-256, then RSASSA-PKCS1-v1_5 or ECDSA as the key says.
pub trait HostVerifier {
    /// Whether `signature` (for ECDSA in DER) is that of `message` by the key (SubjectPublicKeyInfo in DER).
    fn verify_sha256(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, HostFailure>;
}

/// The host could not say. Not the client's fault, so never a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host could not verify a signature")]
pub struct HostFailure;

/// Whether `signature`, as JWS carries it, is that of `message` by `key`.
pub fn verify(
    host: &dyn HostVerifier,
    key: &KeyMaterial,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, HostFailure> {
    match key {
        KeyMaterial::Rsa(spki) => host.verify_sha256(spki, message, signature),
        KeyMaterial::EcP256(spki) => match der::ecdsa_signature(signature) {
            Some(signature) => host.verify_sha256(spki, message, &signature),
            None => Ok(false),
        },
        // `verify_strict` also refuses the malleable forms that RFC 8032 leaves to the implementer.
        KeyMaterial::Ed25519(key) => Ok(ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())),
        // `verify_slice` compares in constant time.
        KeyMaterial::Hmac(secret) => Ok(Hmac::<Sha256>::new_from_slice(secret)
            .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::KeySet;
    use crate::jwt::Jwt;
    use crate::vectors::{self, RingVerifier};
    use serde_json::{Value, json};

    fn holds(token: &str, jwk: Value) -> bool {
        let jwt = Jwt::parse(token.as_bytes()).unwrap();
        let keys = KeySet::parse(&json!({ "keys": [jwk] })).unwrap();
        let key = keys.select(None, jwt.algorithm).unwrap();
        verify(&RingVerifier, &key.material, jwt.signing_input, &jwt.signature).unwrap()
    }

    #[test]
    fn rfc_7515_a1_hs256_holds() {
        assert!(holds(vectors::HS256_TOKEN, vectors::hs256_key()));
    }

    #[test]
    fn rfc_7515_a2_rs256_holds() {
        assert!(holds(vectors::RS256_TOKEN, vectors::rs256_key()));
    }

    #[test]
    fn rfc_7515_a3_es256_holds() {
        assert!(holds(vectors::ES256_TOKEN, vectors::es256_key()));
    }

    #[test]
    fn rfc_8037_a4_eddsa_holds() {
        // Its payload is no claims set, so it goes straight to the verification.
        let keys = KeySet::parse(&json!({ "keys": [vectors::eddsa_key()] })).unwrap();
        let key = keys.select(None, tollgate_filter_config::Algorithm::EdDSA).unwrap();
        let (input, signature) = vectors::eddsa_input_and_signature();
        assert!(verify(&RingVerifier, &key.material, input, &signature).unwrap());
    }

    #[test]
    fn one_changed_bit_breaks_every_algorithm() {
        for (token, jwk) in [
            (vectors::HS256_TOKEN, vectors::hs256_key()),
            (vectors::RS256_TOKEN, vectors::rs256_key()),
            (vectors::ES256_TOKEN, vectors::es256_key()),
        ] {
            let jwt = Jwt::parse(token.as_bytes()).unwrap();
            let keys = KeySet::parse(&json!({ "keys": [jwk] })).unwrap();
            let key = &keys.select(None, jwt.algorithm).unwrap().material;
            for at in 0..jwt.signature.len() {
                let mut signature = jwt.signature.clone();
                signature[at] ^= 1;
                assert!(!verify(&RingVerifier, key, jwt.signing_input, &signature).unwrap(), "{at}");
            }
            for signature in [&[][..], &jwt.signature[1..], &[0; 64]] {
                assert!(!verify(&RingVerifier, key, jwt.signing_input, signature).unwrap());
            }
        }
    }
}
