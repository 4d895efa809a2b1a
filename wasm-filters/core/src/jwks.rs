//! JSON Web Key Sets (RFC 7517): which keys can be used, and which one a token needs.
//!
//! Keys are kept in the form their verification takes, so that nothing is converted during a request.
//! Verifying is `signature`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::{BigUint, RsaPublicKey};
use serde_json::{Map, Value};
use tollgate_filter_config::Algorithm;

use crate::der;
use crate::jwt;

/// Smallest and largest RSA modulus, in bits (RFC 7518 section 3.3 asks for 2048 or more; each doubling
/// makes a verification about four times dearer).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Largest RSA modulus for PS256 to PS512, in bits: those are verified here, some twenty times slower than by the host.
const MAX_PSS_BITS: usize = 4096;
/// Smallest HMAC keys for SHA-256, SHA-384 and SHA-512, in bytes (RFC 7518 section 3.2).
const MIN_HMAC_BYTES: [usize; 3] = [32, 48, 64];

/// The usable keys of one issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// One usable key.
#[derive(Debug, Clone)]
pub struct Key {
    id: Option<String>,
    /// The one algorithm that its `alg` allows.
    algorithm: Option<Algorithm>,
    /// The key, ready to verify.
    pub material: KeyMaterial,
}

/// A key in the form its verification takes. Each form has the algorithms of one family, so a token cannot make
/// a public RSA key into an HMAC secret (RFC 8725 section 2.1).
#[derive(Clone)]
pub enum KeyMaterial {
    /// RS256 to RS512, and PS256 to PS512.
    Rsa(RsaKey),
    /// ES256: SubjectPublicKeyInfo in DER.
    EcP256(Vec<u8>),
    /// ES384: SubjectPublicKeyInfo in DER.
    EcP384(Vec<u8>),
    /// ES512: SubjectPublicKeyInfo in DER.
    EcP521(Vec<u8>),
    /// EdDSA on Ed25519.
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
    /// HS256 to HS512, as far as its length allows.
    Hmac(Vec<u8>),
}

/// An RSA key in both forms.
#[derive(Clone)]
pub struct RsaKey {
    /// SubjectPublicKeyInfo in DER, which the host takes.
    pub spki: Vec<u8>,
    /// The numbers, which we take for PSS; `None` where there are too many of them.
    pub pss: Option<Box<RsaPublicKey>>,
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
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.is_for(algorithm) && key_id.is_none_or(|id| key.id.as_deref() == Some(id)));
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
        let algorithm = match jwk.get("alg") {
            Some(name) => Some(jwt::algorithm(name.as_str()?).filter(|named| material.is_for(*named))?),
            None => None,
        };
        // An id that is no string is no id anyone could name.
        let id = match jwk.get("kid") {
            None => None,
            Some(id) => Some(id.as_str()?.to_owned()),
        };
        Some(Self { id, algorithm, material })
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm) && self.material.is_for(algorithm)
    }
}

impl KeyMaterial {
    /// Whether the key can be used with an algorithm.
    fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{
            ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
        };
        match (self, algorithm) {
            (Self::Rsa(_), RS256 | RS384 | RS512)
            | (Self::EcP256(_), ES256)
            | (Self::EcP384(_), ES384)
            | (Self::EcP521(_), ES512)
            | (Self::Ed25519(_), EdDSA) => true,
            (Self::Rsa(key), PS256 | PS384 | PS512) => key.pss.is_some(),
            (Self::Hmac(key), HS256) => key.len() >= MIN_HMAC_BYTES[0],
            (Self::Hmac(key), HS384) => key.len() >= MIN_HMAC_BYTES[1],
            (Self::Hmac(key), HS512) => key.len() >= MIN_HMAC_BYTES[2],
            _ => false,
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
                let pss = || RsaPublicKey::new(BigUint::from_bytes_be(n), BigUint::from_bytes_be(e)).ok();
                let pss = (usable && bits <= MAX_PSS_BITS).then(pss).flatten().map(Box::new);
                usable.then(|| Self::Rsa(RsaKey { spki: der::rsa_spki(n, e), pss }))
            }
            "EC" if curve() == Some("P-256") => {
                let x: [u8; 32] = member(jwk, "x")?.try_into().ok()?;
                let y: [u8; 32] = member(jwk, "y")?.try_into().ok()?;
                Some(Self::EcP256(der::p256_spki(&x, &y)))
            }
            "EC" if curve() == Some("P-384") => {
                let x: [u8; 48] = member(jwk, "x")?.try_into().ok()?;
                let y: [u8; 48] = member(jwk, "y")?.try_into().ok()?;
                Some(Self::EcP384(der::p384_spki(&x, &y)))
            }
            "EC" if curve() == Some("P-521") => {
                let x: [u8; 66] = member(jwk, "x")?.try_into().ok()?;
                let y: [u8; 66] = member(jwk, "y")?.try_into().ok()?;
                // 521 bits: one of them in the first byte.
                (x[0] <= 1 && y[0] <= 1).then(|| Self::EcP521(der::p521_spki(&x, &y)))
            }
            "OKP" if curve() == Some("Ed25519") => {
                let x: [u8; 32] = member(jwk, "x")?.try_into().ok()?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(&x).ok()?;
                // A key of small order verifies signatures nobody made.
                (!key.is_weak()).then(|| Self::Ed25519(Box::new(key)))
            }
            "oct" => Some(member(jwk, "k")?).filter(|key| key.len() >= MIN_HMAC_BYTES[0]).map(Self::Hmac),
            _ => None,
        }
    }
}

/// Shows the kind only: a key may be a secret, and `Debug` output ends up in logs.
impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Rsa(_) => "RSA",
            Self::EcP256(_) => "P-256",
            Self::EcP384(_) => "P-384",
            Self::EcP521(_) => "P-521",
            Self::Ed25519(_) => "Ed25519",
            Self::Hmac(_) => "HMAC",
        };
        write!(f, "KeyMaterial({kind})")
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
            (vectors::rs256_key(), Algorithm::PS256),
            (vectors::es256_key(), Algorithm::ES256),
            (vectors::es512_key(), Algorithm::ES512),
            (vectors::eddsa_key(), Algorithm::EdDSA),
        ] {
            let set = KeySet::parse(&json!({ "keys": [jwk] })).unwrap();
            assert!(set.select(None, algorithm).unwrap().is_for(algorithm));
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
            with(vectors::rs256_key(), "alg", json!("RS1")),
            with(vectors::hs256_key(), "alg", json!("RS512")),
            with(vectors::rs256_key(), "alg", json!("HS256")),
            with(vectors::rs256_key(), "key_ops", json!(["sign"])),
            with(vectors::rs256_key(), "n", json!("AQAB")),
            with(vectors::rs256_key(), "e", json!("Ag")),
            with(vectors::rs256_key(), "e", json!("AQ")),
            with(vectors::es256_key(), "crv", json!("P-384")),
            with(vectors::es256_key(), "x", json!("AA")),
            with(vectors::es512_key(), "crv", json!("P-256")),
            with(vectors::es512_key(), "alg", json!("ES256")),
            with(vectors::es512_key(), "x", json!(URL_SAFE_NO_PAD.encode([1; 65]))),
            // 522 bits.
            with(vectors::es512_key(), "y", json!(URL_SAFE_NO_PAD.encode([2; 66]))),
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
    fn a_key_is_for_its_family_unless_its_alg_says_less() {
        let mut jwk = vectors::rs256_key();
        let fits = |jwk: &Value, algorithm| {
            KeySet::parse(&json!({ "keys": [jwk] })).unwrap().select(None, algorithm).is_ok()
        };
        let family = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS384];
        assert_eq!(family.map(|algorithm| fits(&jwk, algorithm)), [true; 4]);
        jwk["alg"] = json!("RS384");
        assert_eq!(family.map(|algorithm| fits(&jwk, algorithm)), [false, true, false, false]);
        jwk["alg"] = json!("PS384");
        assert_eq!(family.map(|algorithm| fits(&jwk, algorithm)), [false, false, false, true]);
    }

    #[test]
    fn large_rsa_keys_are_not_for_pss() {
        for (bytes, alg, fits) in [
            (512, None, [true, true]),
            (513, None, [true, false]),
            (1024, None, [true, false]),
            (1025, None, [false, false]),
            (512, Some("PS512"), [false, true]),
            (513, Some("PS512"), [false, false]),
        ] {
            let mut jwk =
                json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(vec![0xff; bytes]), "e": "AQAB" });
            alg.into_iter().for_each(|alg| jwk["alg"] = json!(alg));
            let set = KeySet::parse(&json!({ "keys": [jwk] })).unwrap();
            let found =
                [Algorithm::RS512, Algorithm::PS512].map(|algorithm| set.select(None, algorithm).is_ok());
            assert_eq!(found, fits, "{bytes} {alg:?}");
        }
    }

    #[test]
    fn hmac_keys_are_as_long_as_their_hash() {
        for (length, fits) in
            [(31, [false; 3]), (47, [true, false, false]), (48, [true, true, false]), (64, [true; 3])]
        {
            let jwk = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(vec![7; length]) });
            let set = KeySet::parse(&json!({ "keys": [jwk] })).unwrap();
            let found =
                [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512].map(|a| set.select(None, a).is_ok());
            assert_eq!(found, fits, "{length}");
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
        assert!(format!("{set:?}").contains("KeyMaterial(HMAC)"));
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
            crv in prop_oneof!["P-256", "P-521", "Ed25519", ".{0,5}"],
            n in "[A-Za-z0-9_-]{0,400}", e in "[A-Za-z0-9_-]{0,8}", x in "[A-Za-z0-9_-]{43}", y in ".{0,50}",
        ) {
            let jwk = json!({ "kty": kty, "crv": crv, "n": n, "e": e, "x": x, "y": y, "k": n });
            let _ = KeySet::parse(&json!({ "keys": [jwk] }));
        }
    }
}
