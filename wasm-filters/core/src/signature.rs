//! Whether a signature holds.
//!
//! RSA and ECDSA go to the host, whose BoringSSL is some twenty times faster than the same in Wasm; EdDSA
//! and HMAC, which the host cannot do, are done here. Which key to use is `jwks`.

use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha384, Sha512};
use tollgate_filter_config::Algorithm;

use crate::der;
use crate::jwks::KeyMaterial;

pub mod foreign;

/// What the host verifies for us: a hash, then RSASSA-PKCS1-v1_5 or ECDSA as the key says.
pub trait HostVerifier {
    /// Whether `signature` (for ECDSA in DER) is that of `message` by the key (SubjectPublicKeyInfo in DER).
    fn verify(&self, hash: Hash, key: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, HostFailure>;
}

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// That of an algorithm which the host verifies.
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::RS384 | Algorithm::ES384 | Algorithm::HS384 => Self::Sha384,
            Algorithm::RS512 | Algorithm::HS512 => Self::Sha512,
            _ => Self::Sha256,
        }
    }
}

/// The host could not say. Not the client's fault, so never a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host could not verify a signature")]
pub struct HostFailure;

/// Whether `signature`, as JWS carries it, is that of `message` by `key` with `algorithm`, which the key must be for.
pub fn verify(
    host: &dyn HostVerifier,
    key: &KeyMaterial,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, HostFailure> {
    let hash = Hash::of(algorithm);
    match key {
        KeyMaterial::Rsa(spki) => host.verify(hash, spki, message, signature),
        KeyMaterial::EcP256(spki) | KeyMaterial::EcP384(spki) => {
            let size = if matches!(key, KeyMaterial::EcP256(_)) { 32 } else { 48 };
            match der::ecdsa_signature(signature, size) {
                Some(signature) => host.verify(hash, spki, message, &signature),
                None => Ok(false),
            }
        }
        // `verify_strict` also refuses the malleable forms that RFC 8032 leaves to the implementer.
        KeyMaterial::Ed25519(key) => Ok(ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())),
        // `verify_slice` compares in constant time.
        KeyMaterial::Hmac(secret) => Ok(match hash {
            Hash::Sha256 => Hmac::<Sha256>::new_from_slice(secret)
                .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok()),
            Hash::Sha384 => Hmac::<Sha384>::new_from_slice(secret)
                .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok()),
            Hash::Sha512 => Hmac::<Sha512>::new_from_slice(secret)
                .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok()),
        }),
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
        verify(&RingVerifier, &key.material, jwt.algorithm, jwt.signing_input, &jwt.signature).unwrap()
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
        let key = keys.select(None, Algorithm::EdDSA).unwrap();
        let (input, signature) = vectors::eddsa_input_and_signature();
        assert!(verify(&RingVerifier, &key.material, Algorithm::EdDSA, input, &signature).unwrap());
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
                assert!(
                    !verify(&RingVerifier, key, jwt.algorithm, jwt.signing_input, &signature).unwrap(),
                    "{at}"
                );
            }
            for signature in [&[][..], &jwt.signature[1..], &[0; 64]] {
                assert!(!verify(&RingVerifier, key, jwt.algorithm, jwt.signing_input, signature).unwrap());
            }
        }
    }
}
