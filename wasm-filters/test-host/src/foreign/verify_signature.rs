//! Envoy's `verify_signature`: RSA PKCS #1 v1.5 and ECDSA, from protobuf to protobuf.
//!
//! Argument `{string hash_function = 1; bytes public_key = 2; bytes signature = 3; bytes text = 4;}`, the key as
//! SubjectPublicKeyInfo (RFC 5280 section 4.1), ECDSA signatures as DER; result `{bool result = 1; string error =
//! 2;}`; a key in PEM is field 5. Ed25519 and PSS are refused, as Envoy refuses them.

use p521::ecdsa::signature::Verifier as _;
use p521::ecdsa::{Signature, VerifyingKey};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::key;
use crate::abi::Status;
use crate::protobuf;

/// Runs it. No key at all is `BadArgument`; one that cannot be read, and a signature that does not match, are
/// results.
///
/// What Envoy verifies and `ring` does not (P-521 with other hashes than SHA-512, SHA-1 and SHA-512 on P-256, …) is `Unimplemented`, so that a
/// filter's test stops there instead of seeing a signature fail that Envoy takes.
pub(crate) fn call(argument: &[u8]) -> Result<Vec<u8>, Status> {
    let fields = protobuf::fields(argument).ok_or(Status::BadArgument)?;
    let field = |number| protobuf::bytes(&fields, number).unwrap_or_default();
    let key = key::der(field(2), field(5))?;
    let verdict = verify(&field(1).to_ascii_lowercase(), &key, field(3), field(4))?;
    let mut result = Vec::new();
    match verdict {
        Ok(()) => protobuf::put_bool(&mut result, 1, true),
        Err(error) => protobuf::put_bytes(&mut result, 2, error.as_bytes()),
    }
    Ok(result)
}

fn verify(hash: &[u8], key: &[u8], signature: &[u8], text: &[u8]) -> Result<Result<(), String>, Status> {
    if !matches!(hash, b"sha1" | b"sha224" | b"sha256" | b"sha384" | b"sha512") {
        return Ok(Err(format!("{} is not supported.", String::from_utf8_lossy(hash))));
    }
    let key = Key::parse(key).filter(|key| key.kind != KeyKind::Other);
    let Some(key) = key else { return Ok(Err("Failed to initialize digest verify.".to_string())) };
    let holds = match (&key.kind, hash) {
        (KeyKind::P521, b"sha512") => match VerifyingKey::from_sec1_bytes(key.bits) {
            Ok(key) => {
                Signature::from_der(signature).is_ok_and(|signature| key.verify(text, &signature).is_ok())
            }
            Err(_) => return Ok(Err("Failed to initialize digest verify.".to_string())),
        },
        _ => {
            let algorithm = key.algorithm(hash).ok_or(Status::Unimplemented)?;
            UnparsedPublicKey::new(algorithm, key.bits).verify(text, signature).is_ok()
        }
    };
    Ok(if holds { Ok(()) } else { Err("Failed to verify digest. Error code: 0".to_string()) })
}

/// A SubjectPublicKeyInfo, taken apart.
struct Key<'a> {
    kind: KeyKind,
    bits: &'a [u8],
}

#[derive(PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    P521,
    /// One that Envoy does not verify with.
    Other,
}

/// Object identifiers in DER: rsaEncryption, id-ecPublicKey, prime256v1, secp384r1, secp521r1.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
const BIT_STRING: u8 = 0x03;

impl<'a> Key<'a> {
    fn parse(der: &'a [u8]) -> Option<Self> {
        let (info, _) = element(der, SEQUENCE)?;
        let (algorithm, rest) = element(info, SEQUENCE)?;
        let (bits, _) = element(rest, BIT_STRING)?;
        let (unused, bits) = bits.split_first()?;
        if *unused != 0 {
            return None;
        }
        let (name, parameters) = element(algorithm, OBJECT)?;
        let kind = match name {
            RSA => KeyKind::Rsa,
            EC => match element(parameters, OBJECT)?.0 {
                P256 => KeyKind::P256,
                P384 => KeyKind::P384,
                P521 => KeyKind::P521,
                _ => KeyKind::Other,
            },
            _ => KeyKind::Other,
        };
        Some(Self { kind, bits })
    }

    fn algorithm(&self, hash: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
        // BoringSSL takes small RSA keys; so do the algorithms that ring calls legacy.
        Some(match (&self.kind, hash) {
            (KeyKind::Rsa, b"sha1") => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            (KeyKind::Rsa, b"sha256") => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            (KeyKind::Rsa, b"sha384") => &signature::RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa, b"sha512") => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
            (KeyKind::P256, b"sha256") => &signature::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P256, b"sha384") => &signature::ECDSA_P256_SHA384_ASN1,
            (KeyKind::P384, b"sha256") => &signature::ECDSA_P384_SHA256_ASN1,
            (KeyKind::P384, b"sha384") => &signature::ECDSA_P384_SHA384_ASN1,
            _ => return None,
        })
    }
}

/// Content of a DER element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (have, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (*have == tag).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

    use super::*;

    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, content.len() as u8], content].concat()
    }

    fn spki(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
        let bits = der(BIT_STRING, &[&[0], bits].concat());
        der(SEQUENCE, &[der(SEQUENCE, algorithm), bits].concat())
    }

    fn argument(hash: &str, key: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, value) in [(1, hash.as_bytes()), (2, key), (3, signature), (4, text)] {
            protobuf::put_bytes(&mut out, number, value);
        }
        out
    }

    #[test]
    fn p256_verifies_and_a_changed_text_does_not() {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random)
            .expect("a pair");
        let algorithm = [der(OBJECT, EC), der(OBJECT, P256)].concat();
        let key = spki(&algorithm, pair.public_key().as_ref());
        let signature = pair.sign(&random, b"text").expect("signed");

        let good = call(&argument("SHA256", &key, signature.as_ref(), b"text"));
        assert_eq!(good, Ok(vec![1 << 3, 1]));
        let bad = call(&argument("sha256", &key, signature.as_ref(), b"tExt")).expect("a result");
        assert_eq!(protobuf::bytes(&protobuf::fields(&bad).expect("a message"), 1), None);
        assert!(String::from_utf8_lossy(&bad).contains("Failed to verify digest"));
        let unknown = call(&argument("md5", &key, signature.as_ref(), b"text")).expect("a result");
        assert!(String::from_utf8_lossy(&unknown).contains("md5 is not supported."));
    }

    #[test]
    fn ed25519_is_refused_although_the_signature_is_good() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a pair");
        let key = spki(&der(OBJECT, ED25519), pair.public_key().as_ref());
        let result = call(&argument("sha256", &key, pair.sign(b"text").as_ref(), b"text")).expect("a result");
        assert!(String::from_utf8_lossy(&result).contains("Failed to initialize digest verify."));
    }

    #[test]
    fn no_key_is_a_bad_argument_and_a_broken_one_a_result() {
        assert_eq!(call(&argument("sha256", b"", b"", b"")), Err(Status::BadArgument));
        assert_eq!(call(&[0xff]), Err(Status::BadArgument));
        for key in [&b"\x30"[..], b"\x30\x84\xff\xff\xff\xff", b"not der", &[0x30, 2, 0x30, 0]] {
            let result = call(&argument("sha256", key, b"", b"")).expect("a result");
            assert!(
                String::from_utf8_lossy(&result).contains("Failed to initialize digest verify."),
                "{key:?}"
            );
        }
    }

    #[test]
    fn what_ring_cannot_verify_is_not_taken_for_a_bad_signature() {
        let key = spki(&[der(OBJECT, EC), der(OBJECT, P256)].concat(), &[4; 65]);
        assert_eq!(call(&argument("sha512", &key, b"", b"")), Err(Status::Unimplemented));
    }
}
