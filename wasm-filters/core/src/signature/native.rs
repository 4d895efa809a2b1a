//! What Envoy's BoringSSL verifies for a filter in Wasm, verified here where the filter is native code.

use p521::ecdsa::signature::Verifier as _;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::{Hash, HostFailure, HostVerifier};
use crate::der::{self, KeyKind};

/// Verifies with `ring`; P-521, which it does not know, with `p521`.
#[derive(Debug, Clone, Copy)]
pub struct Native;

impl HostVerifier for Native {
    fn verify(&self, hash: Hash, key: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, HostFailure> {
        let (kind, key) = der::parse_spki(key).ok_or(HostFailure)?;
        let algorithm: &dyn VerificationAlgorithm = match (kind, hash) {
            (KeyKind::Rsa, Hash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa, Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa, Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (KeyKind::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (KeyKind::P521, Hash::Sha512) => return p521(key, message, signature),
            // No algorithm of JOSE's.
            _ => return Err(HostFailure),
        };
        Ok(UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok())
    }
}

fn p521(key: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, HostFailure> {
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(key).map_err(|_| HostFailure)?;
    let signature = p521::ecdsa::Signature::from_der(signature);
    Ok(signature.is_ok_and(|signature| key.verify(message, &signature).is_ok()))
}
