//! Envoy's `sign`: RSA PKCS #1 v1.5 and ECDSA, from protobuf to protobuf.
//!
//! Argument `{string hash_function = 1; bytes private_key = 2; bytes text = 3; string private_key_pem = 4;}`, the key
//! as PKCS #8 or, for RSA, PKCS #1; result `{bool result = 1; bytes signature = 2; string error = 3;}`, ECDSA signatures
//! as DER.

use ring::rand::SystemRandom;
use ring::rsa::KeyPair as RsaKeyPair;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
};

use super::key;
use crate::abi::Status;
use crate::protobuf;

/// Runs it. No key at all is `BadArgument`; what Envoy signs and `ring` does not (a key it can't read, SHA-1, P-521, …)
/// is `Unimplemented`.
pub(crate) fn call(argument: &[u8]) -> Result<Vec<u8>, Status> {
    let fields = protobuf::fields(argument).ok_or(Status::BadArgument)?;
    let field = |number| protobuf::bytes(&fields, number).unwrap_or_default();
    let key = key::der(field(2), field(4))?;
    let hash = field(1).to_ascii_lowercase();
    let mut result = Vec::new();
    if matches!(hash.as_slice(), b"sha1" | b"sha224" | b"sha256" | b"sha384" | b"sha512") {
        let signature = sign(&hash, &key, field(3)).ok_or(Status::Unimplemented)?;
        protobuf::put_bool(&mut result, 1, true);
        protobuf::put_bytes(&mut result, 2, &signature);
    } else {
        let error = format!("{} is not supported.", String::from_utf8_lossy(&hash));
        protobuf::put_bytes(&mut result, 3, error.as_bytes());
    }
    Ok(result)
}

fn sign(hash: &[u8], key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    if let Ok(pair) = RsaKeyPair::from_pkcs8(key).or_else(|_| RsaKeyPair::from_der(key)) {
        let padding: &dyn ring::signature::RsaEncoding = match hash {
            b"sha256" => &RSA_PKCS1_SHA256,
            b"sha384" => &RSA_PKCS1_SHA384,
            b"sha512" => &RSA_PKCS1_SHA512,
            _ => return None,
        };
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &random, text, &mut signature).ok()?;
        return Some(signature);
    }
    let algorithm = match hash {
        b"sha256" => &ECDSA_P256_SHA256_ASN1_SIGNING,
        b"sha384" => &ECDSA_P384_SHA384_ASN1_SIGNING,
        _ => return None,
    };
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key, &random).ok()?;
    Some(pair.sign(&random, text).ok()?.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, KeyPair as _, UnparsedPublicKey};

    use super::*;

    fn argument(hash: &str, key: &[u8], text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, value) in [(1, hash.as_bytes()), (2, key), (3, text)] {
            protobuf::put_bytes(&mut out, number, value);
        }
        out
    }

    #[test]
    fn what_is_signed_verifies() {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random);
        let public = pair.expect("a pair").public_key().as_ref().to_vec();

        let result = call(&argument("SHA256", key.as_ref(), b"text")).expect("a result");
        let fields = protobuf::fields(&result).expect("a message");
        let signature = protobuf::bytes(&fields, 2).expect("a signature");
        assert!(UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public).verify(b"text", signature).is_ok());
    }

    #[test]
    fn no_key_is_a_bad_argument_an_unknown_hash_a_result_and_a_strange_key_unimplemented() {
        assert_eq!(call(&argument("sha256", b"", b"")), Err(Status::BadArgument));
        assert_eq!(call(b"\xff"), Err(Status::BadArgument));
        assert_eq!(call(&argument("sha256", b"not der", b"")), Err(Status::Unimplemented));
        let unknown = call(&argument("md5", b"key", b"")).expect("a result");
        assert!(String::from_utf8_lossy(&unknown).contains("md5 is not supported."));
    }
}
