//! JSON Web Key Sets (RFC 7517): which keys can be used, and which one a token needs.
//!
//! Keys are kept in the form their verification takes, so that nothing is converted during a request.
//! Verifying is `signature`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use tollgate_filter_config::Algorithm;

use crate::der;
use crate::jwt;

/// Smallest and largest RSA modulus, in bits (RFC 7518 section 3.3 asks for 2048 or more; each doubling
/// makes a verification about four times dearer).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Smallest HS256 key, in bytes (RFC 7518 section 3.2).
const MIN_HMAC_BYTES: usize = 32;

/// The usable keys of one issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// One usable key.
#[derive(Debug, Clone)]
pub struct Key {
    id: Option<String>,
    /// The key, ready for its one algorithm.
    pub material: KeyMaterial,
}

/// A key in the form its verification takes. Each form has exactly one algorithm, so a token cannot make a
/// public RSA key into an HMAC secret (RFC 8725 section 2.1).
#[derive(Clone)]
pub enum KeyMaterial {
    /// RS256: SubjectPublicKeyInfo in DER.
    Rsa(Vec<u8>),
    /// ES256: SubjectPublicKeyInfo in DER.
    EcP256(Vec<u8>),
    /// EdDSA on Ed25519.
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
    /// HS256.
    Hmac(Vec<u8>),
}

/// Why no key was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No key has this id and algorithm; or the token names no key and none has the algorithm.
    #[error("no key fits the token")]
    Unknown,
    /// Several keys fit, and guessing would weaken the choice of key to "any".
    #[error("more than one key fits the token")]
    Ambiguous,
}

/// Why a value is no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no JSON Web Key Set: an object with an array `keys` is")]
pub struct NotAKeySet;

impl KeySet {
    /// Reads a key set. Keys that cannot be used here are skipped, as RFC 7517 section 5 asks: an issuer may
    /// publish more than we understand.
    pub fn parse(value: &Value) -> Result<Self, NotAKeySet> {
        let keys = value.get("keys").and_then(Value::as_array).ok_or(NotAKeySet)?;
        Ok(Self { keys: keys.iter().filter_map(Key::parse).collect() })
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The one key for a token of `algorithm` that names `key_id`. An unknown id never falls back to another
    /// key; without an id exactly one key must fit.
    pub fn select(&self, key_id: Option<&str>, algorithm: Algorithm) -> Result<&Key, SelectError> {
        let mut fitting = self.keys.iter().filter(|key| {
            key.material.algorithm() == algorithm && key_id.is_none_or(|id| key.id.as_deref() == Some(id))
        });
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(SelectError::Ambiguous),
            (None, _) => Err(SelectError::Unknown),
        }
    }
}

impl Key {
    fn parse(value: &Value) -> Option<Self> {
        let jwk = value.as_object()?;
        if jwk.get("use").is_some_and(|usage| usage.as_str() != Some("sig")) {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops") {
            let verifies = |operation: &Value| operation.as_str() == Some("verify");
            operations.as_array()?.iter().find(|operation| verifies(operation))?;
        }
        let material = KeyMaterial::parse(jwk)?;
        if let Some(name) = jwk.get("alg") {
            let named = jwt::algorithm(name.as_str()?)?;
            if named != material.algorithm() {
                return None;
            }
        }
        // An id that is no string is no id anyone could name.
        let id = match jwk.get("kid") {
            None => None,
            Some(id) => Some(id.as_str()?.to_owned()),
        };
        Some(Self { id, material })
    }
}

impl KeyMaterial {
    /// The algorithm this key is for.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::RS256,
            Self::EcP256(_) => Algorithm::ES256,
            Self::Ed25519(_) => Algorithm::EdDSA,
            Self::Hmac(_) => Algorithm::HS256,
        }
    }

    fn parse(jwk: &Map<String, Value>) -> Option<Self> {
        let curve = || jwk.get("crv").and_then(Value::as_str);
        match jwk.get("kty")?.as_str()? {
            "RSA" => {
                let (n, e) = (member(jwk, "n")?, member(jwk, "e")?);
                let (n, e) = (der::strip_zeros(&n), der::strip_zeros(&e));
                let bits = n.len().checked_mul(8)?.checked_sub(n.first()?.leading_zeros() as usize)?;
                // BoringSSL takes odd exponents of up to 33 bits.
                let usable = RSA_BITS.contains(&bits) && e.len() <= 5 && e.last()? & 1 == 1 && e != [1];
                usable.then(|| Self::Rsa(der::rsa_spki(n, e)))
            }
            "EC" if curve() == Some("P-256") => {
                let x: [u8; 32] = member(jwk, "x")?.try_into().ok()?;
                let y: [u8; 32] = member(jwk, "y")?.try_into().ok()?;
                Some(Self::EcP256(der::p256_spki(&x, &y)))
            }
            "OKP" if curve() == Some("Ed25519") => {
                let x: [u8; 32] = member(jwk, "x")?.try_into().ok()?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(&x).ok()?;
                // A key of small order verifies signatures nobody made.
                (!key.is_weak()).then(|| Self::Ed25519(Box::new(key)))
            }
            "oct" => Some(member(jwk, "k")?).filter(|key| key.len() >= MIN_HMAC_BYTES).map(Self::Hmac),
            _ => None,
        }
    }
}

/// Shows the algorithm only: a key may be a secret, and `Debug` output ends up in logs.
impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyMaterial({:?})", self.algorithm())
    }
}

fn member(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;
    use proptest::prelude::*;
    use serde_json::json;

    fn key(kid: &str, mut jwk: Value) -> Value {
        jwk["kid"] = json!(kid);
        jwk
    }

    #[test]
    fn rfc_keys_are_usable() {
        for (jwk, algorithm) in [
            (vectors::hs256_key(), Algorithm::HS256),
            (vectors::rs256_key(), Algorithm::RS256),
            (vectors::es256_key(), Algorithm::ES256),
            (vectors::eddsa_key(), Algorithm::EdDSA),
        ] {
            let set = KeySet::parse(&json!({ "keys": [jwk] })).unwrap();
            assert_eq!(set.select(None, algorithm).unwrap().material.algorithm(), algorithm);
        }
    }

    #[test]
    fn unusable_keys_are_skipped_and_the_others_kept() {
        let with = |mut jwk: Value, name: &str, value: Value| {
            jwk[name] = value;
            jwk
        };
        let unusable = [
            json!(7),
            json!({}),
            json!({ "kty": "future" }),
            with(vectors::rs256_key(), "use", json!("enc")),
            with(vectors::rs256_key(), "alg", json!("RS512")),
            with(vectors::rs256_key(), "alg", json!("HS256")),
            with(vectors::rs256_key(), "key_ops", json!(["sign"])),
            with(vectors::rs256_key(), "n", json!("AQAB")),
            with(vectors::rs256_key(), "e", json!("Ag")),
            with(vectors::rs256_key(), "e", json!("AQ")),
            with(vectors::es256_key(), "crv", json!("P-384")),
            with(vectors::es256_key(), "x", json!("AA")),
            with(vectors::eddsa_key(), "crv", json!("X25519")),
            with(vectors::eddsa_key(), "x", json!("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
            with(vectors::hs256_key(), "k", json!("c2hvcnQ")),
            with(vectors::hs256_key(), "kid", json!(7)),
        ];
        for jwk in &unusable {
            let set = KeySet::parse(&json!({ "keys": [jwk, vectors::es256_key()] })).unwrap();
            assert_eq!(set.len(), 1, "{jwk}");
        }
    }

    #[test]
    fn unknown_id_never_falls_back() {
        let set = KeySet::parse(&json!({ "keys": [key("a", vectors::rs256_key())] })).unwrap();
        assert!(set.select(Some("a"), Algorithm::RS256).is_ok());
        assert!(set.select(None, Algorithm::RS256).is_ok());
        assert_eq!(set.select(Some("b"), Algorithm::RS256).unwrap_err(), SelectError::Unknown);
        assert_eq!(set.select(Some("a"), Algorithm::ES256).unwrap_err(), SelectError::Unknown);
        let set = KeySet::parse(&json!({ "keys": [vectors::rs256_key()] })).unwrap();
        assert_eq!(set.select(Some("b"), Algorithm::RS256).unwrap_err(), SelectError::Unknown);
    }

    #[test]
    fn no_id_needs_exactly_one_fitting_key() {
        let keys = json!({ "keys": [
            key("a", vectors::rs256_key()), key("b", vectors::rs256_key()), key("a", vectors::es256_key()),
        ] });
        let set = KeySet::parse(&keys).unwrap();
        assert_eq!(set.select(None, Algorithm::RS256).unwrap_err(), SelectError::Ambiguous);
        assert!(set.select(None, Algorithm::ES256).is_ok());
        assert!(set.select(Some("a"), Algorithm::RS256).is_ok());
    }

    #[test]
    fn key_material_is_not_shown() {
        let set = KeySet::parse(&json!({ "keys": [vectors::hs256_key()] })).unwrap();
        assert!(format!("{set:?}").contains("KeyMaterial(HS256)"));
    }

    #[test]
    fn what_is_no_key_set_is_an_error() {
        for value in [json!(null), json!([]), json!({}), json!({ "keys": {} })] {
            assert!(KeySet::parse(&value).is_err(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_members_are_survived(
            kty in prop_oneof!["RSA", "EC", "OKP", "oct", ".{0,5}"],
            crv in prop_oneof!["P-256", "Ed25519", ".{0,5}"],
            n in "[A-Za-z0-9_-]{0,400}", e in "[A-Za-z0-9_-]{0,8}", x in "[A-Za-z0-9_-]{43}", y in ".{0,50}",
        ) {
            let jwk = json!({ "kty": kty, "crv": crv, "n": n, "e": e, "x": x, "y": y, "k": n });
            let _ = KeySet::parse(&json!({ "keys": [jwk] }));
        }
    }
}
