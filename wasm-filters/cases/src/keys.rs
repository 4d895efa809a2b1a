//! The keys of the cases, and the key set that knows them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::{Signature, SigningKey, VerifyingKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use ring::{digest, hmac};
use serde_json::{Value, json};

/// A test key cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("test key {0} cannot be read")]
pub struct KeyError(&'static str);

/// Private keys that sign the cases' tokens.
pub struct Keys {
    pub(crate) rsa: RsaKeyPair,
    /// In no key set.
    pub(crate) other_rsa: RsaKeyPair,
    pub(crate) ec: EcdsaKeyPair,
    pub(crate) ec384: EcdsaKeyPair,
    ec521: SigningKey,
    pub(crate) ed: Ed25519KeyPair,
    pub(crate) random: SystemRandom,
}

/// Secret of the HS256 key.
const SECRET: &[u8] = b"a secret that is long enough for HS256";
/// Secret of the HS384 and the HS512 key.
const LONG_SECRET: &[u8] = b"a secret of 64 bytes, which is what HMAC with SHA-512 asks for, .";

impl Keys {
    /// Reads the RSA keys and makes the others: those of elliptic curves cost nothing to make.
    ///
    /// # Errors
    ///
    /// A key cannot be read or made.
    pub fn load() -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| KeyError("ec"))?;
        let ec384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random)
            .map_err(|_| KeyError("ec384"))?;
        let ed = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| KeyError("ed"))?;
        Ok(Self {
            rsa: rsa("rsa", include_str!("../keys/rsa.pem"))?,
            other_rsa: rsa("rsa_other", include_str!("../keys/rsa_other.pem"))?,
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random)
                .map_err(|_| KeyError("ec"))?,
            ec384: EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, ec384.as_ref(), &random)
                .map_err(|_| KeyError("ec384"))?,
            ec521: p521_key(&random)?,
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).map_err(|_| KeyError("ed"))?,
            random,
        })
    }

    /// The key set (RFC 7517) with one key of each algorithm: `rs`, `rs384`, `rs512`, `ps256`, `ps384`, `ps512`, `es`,
    /// `es384`, `es512`, `ed`, `hs`, `hs384`, `hs512`.
    pub fn jwks(&self) -> Value {
        let rsa = |id: &str, alg: &str| {
            let mut jwk = self.rsa_jwk(id);
            jwk["alg"] = json!(alg);
            jwk
        };
        let hmac =
            |id: &str, alg: &str| json!({ "kty": "oct", "kid": id, "alg": alg, "k": base64(LONG_SECRET) });
        json!({ "keys": [
            self.rsa_jwk("rs"), rsa("rs384", "RS384"), rsa("rs512", "RS512"), rsa("ps256", "PS256"),
            rsa("ps384", "PS384"), rsa("ps512", "PS512"), ec_jwk("es", "P-256", self.ec.public_key().as_ref()),
            ec_jwk("es384", "P-384", self.ec384.public_key().as_ref()), self.ec521_jwk(), self.ed_jwk(),
            hmac_jwk(), hmac("hs384", "HS384"), hmac("hs512", "HS512"),
        ] })
    }

    /// Signs as ES256 does, or ES384 or ES512 where `alg` says so.
    pub(crate) fn ec_sign(&self, alg: &str, input: &[u8]) -> Vec<u8> {
        let key = match alg {
            "ES512" => {
                let signature: Signature = self.ec521.sign(input);
                return signature.to_vec();
            }
            "ES384" => &self.ec384,
            _ => &self.ec,
        };
        key.sign(&self.random, input).map_or_else(|_| Vec::new(), |signature| signature.as_ref().to_vec())
    }

    /// A key set in which two keys fit an RS256 token that names none.
    pub(crate) fn ambiguous_jwks(&self) -> Value {
        json!({ "keys": [self.rsa_jwk("rs"), self.rsa_jwk("rs-2")] })
    }

    /// A key set with the RSA key alone, with or without an id.
    pub(crate) fn one_key(&self, id: Option<&str>) -> Value {
        let mut key = self.rsa_jwk(id.unwrap_or_default());
        if let (None, Some(key)) = (id, key.as_object_mut()) {
            key.remove("kid");
        }
        json!({ "keys": [key] })
    }

    /// Modulus of the RSA key, which an attacker knows, and may try as an HMAC secret.
    pub(crate) fn rsa_modulus(&self) -> Vec<u8> {
        self.rsa_public().n
    }

    fn rsa_public(&self) -> PublicKeyComponents<Vec<u8>> {
        self.rsa.public().into()
    }

    fn rsa_jwk(&self, id: &str) -> Value {
        let PublicKeyComponents { n, e } = self.rsa_public();
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "n": base64(n), "e": base64(e) })
    }

    fn ec521_jwk(&self) -> Value {
        let point = VerifyingKey::from(&self.ec521).to_encoded_point(false);
        ec_jwk("es512", "P-521", point.as_bytes())
    }

    fn ed_jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": base64(self.ed.public_key()) })
    }
}

/// `point` is uncompressed: 4, x, y.
fn ec_jwk(id: &str, curve: &str, point: &[u8]) -> Value {
    let point = point.get(1..).unwrap_or_default();
    let (x, y) = point.split_at_checked(point.len() / 2).unwrap_or_default();
    json!({ "kty": "EC", "crv": curve, "kid": id, "x": base64(x), "y": base64(y) })
}

fn hmac_jwk() -> Value {
    json!({ "kty": "oct", "kid": "hs", "k": base64(SECRET) })
}

/// The HS256 key, or one with another secret.
pub(crate) fn hmac_key(secret: Option<&[u8]>) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.unwrap_or(SECRET))
}

/// Signs with the longer secret, as HS384 or HS512 does.
pub(crate) fn long_hmac_key(alg: &str) -> hmac::Key {
    let algorithm = if alg == "HS384" { hmac::HMAC_SHA384 } else { hmac::HMAC_SHA512 };
    hmac::Key::new(algorithm, LONG_SECRET)
}

/// Signs as RS256 does, or another algorithm of RSA where `alg` says so.
pub(crate) fn rsa_sign(key: &RsaKeyPair, random: &SystemRandom, alg: &str, input: &[u8]) -> Vec<u8> {
    let encoding: &dyn RsaEncoding = match alg {
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        "PS512" => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    };
    let mut signature = vec![0; key.public().modulus_len()];
    // Fails on a buffer of the wrong size only; a zero signature would fail the case at once.
    let _ = key.sign(encoding, random, input, &mut signature);
    signature
}

/// base64url without padding.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// SHA-256 in lower-case hexadecimal: how configurations and introspection name an API key.
pub(crate) fn sha256_hex(text: impl AsRef<[u8]>) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_ref());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn p521_key(random: &SystemRandom) -> Result<SigningKey, KeyError> {
    let mut scalar = [0; 66];
    // Below 2^520, so below the order of the curve.
    random.fill(&mut scalar[1..]).map_err(|_| KeyError("ec521"))?;
    SigningKey::from_slice(&scalar).map_err(|_| KeyError("ec521"))
}

fn rsa(name: &'static str, pem: &str) -> Result<RsaKeyPair, KeyError> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(base64).map_err(|_| KeyError(name))?;
    RsaKeyPair::from_pkcs8(&der).map_err(|_| KeyError(name))
}
