//! Whether a signature holds.
//!
//! RSASSA-PKCS1-v1_5 and ECDSA go to the host, whose BoringSSL is some twenty times faster than the same in Wasm;
//! RSASSA-PSS, EdDSA and HMAC, which the host cannot do, are done here. Which key to use is `jwks`.

use hmac::{Hmac, Mac};
use rsa::pss;
use rsa::signature::Verifier;
use sha2::{Sha256, Sha384, Sha512};
use tollgate_filter_config::Algorithm;

use crate::der;
use crate::jwks::{KeyMaterial, RsaKey};

pub mod foreign;
#[cfg(not(target_family = "wasm"))]
mod native;

#[cfg(not(target_family = "wasm"))]
pub use native::Native;

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
    /// That of an algorithm.
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 | Algorithm::HS256 => Self::Sha256,
            Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 | Algorithm::HS384 => Self::Sha384,
            // Ed25519 hashes on its own, and so it does.
            Algorithm::RS512 | Algorithm::PS512 | Algorithm::ES512 | Algorithm::HS512 | Algorithm::EdDSA => {
                Self::Sha512
            }
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
        KeyMaterial::Rsa(key) => match algorithm {
            Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => Ok(pss(key, hash, message, signature)),
            _ => host.verify(hash, &key.spki, message, signature),
        },
        KeyMaterial::EcP256(spki) => ecdsa(host, hash, (spki, 32), message, signature),
        KeyMaterial::EcP384(spki) => ecdsa(host, hash, (spki, 48), message, signature),
        KeyMaterial::EcP521(spki) => ecdsa(host, hash, (spki, 66), message, signature),
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

/// `size` is that of the curve's numbers, in bytes.
fn ecdsa(
    host: &dyn HostVerifier,
    hash: Hash,
    (key, size): (&[u8], usize),
    message: &[u8],
    signature: &[u8],
) -> Result<bool, HostFailure> {
    match der::ecdsa_signature(signature, size) {
        Some(signature) => host.verify(hash, key, message, &signature),
        None => Ok(false),
    }
}

/// RFC 7518 section 3.5: the mask is made with the same hash, and the salt is as long as it.
fn pss(key: &RsaKey, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
    let (Some(key), Ok(signature)) = (&key.pss, pss::Signature::try_from(signature)) else {
        return false;
    };
    // Unlike `RsaPublicKey::verify`, this refuses a signature with the modulus added, which would be a second spelling.
    let key = key.as_ref().clone();
    let holds = match hash {
        Hash::Sha256 => pss::VerifyingKey::<Sha256>::new(key).verify(message, &signature),
        Hash::Sha384 => pss::VerifyingKey::<Sha384>::new(key).verify(message, &signature),
        Hash::Sha512 => pss::VerifyingKey::<Sha512>::new(key).verify(message, &signature),
    };
    holds.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::KeySet;
    use crate::jwt::Jwt;
    use crate::vectors;
    use serde_json::{Value, json};

    fn holds(token: &str, jwk: Value) -> bool {
        let jwt = Jwt::parse(token.as_bytes()).unwrap();
        let keys = KeySet::parse(&json!({ "keys": [jwk] })).unwrap();
        let key = keys.select(None, jwt.algorithm).unwrap();
        verify(&Native, &key.material, jwt.algorithm, jwt.signing_input, &jwt.signature).unwrap()
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
        assert!(verify(&Native, &key.material, Algorithm::EdDSA, input, &signature).unwrap());
    }

    /// Asserts that this signature holds, and none that differs from it.
    fn holds_as_it_is_only(jwk: Value, algorithm: Algorithm, input: &str, signature: &[u8]) {
        let keys = KeySet::parse(&json!({ "keys": [jwk] })).unwrap();
        let key = &keys.select(None, algorithm).unwrap().material;
        let holds = |signature: &[u8]| verify(&Native, key, algorithm, input.as_bytes(), signature).unwrap();
        assert!(holds(signature));
        for at in (0..signature.len()).step_by(11) {
            let mut changed = signature.to_vec();
            changed[at] ^= 1 << (at % 8);
            assert!(!holds(&changed), "{at}");
        }
        for other in [&[][..], &signature[1..], &[signature, &[0]].concat(), &[0; 132], &[0xff; 256]] {
            assert!(!holds(other), "{other:?}");
        }
    }

    #[test]
    fn rfc_7520_4_2_ps384_holds() {
        let (input, signature) = vectors::ps384_input_and_signature();
        holds_as_it_is_only(vectors::ps384_key(), Algorithm::PS384, &input, &signature);
    }

    #[test]
    fn rfc_7520_4_3_es512_holds() {
        let (input, signature) = vectors::es512_input_and_signature();
        holds_as_it_is_only(vectors::es512_key(), Algorithm::ES512, &input, &signature);
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
                assert!(!verify(&Native, key, jwt.algorithm, jwt.signing_input, &signature).unwrap(), "{at}");
            }
            for signature in [&[][..], &jwt.signature[1..], &[0; 64]] {
                assert!(!verify(&Native, key, jwt.algorithm, jwt.signing_input, signature).unwrap());
            }
        }
    }
}
