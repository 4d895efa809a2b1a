//! The P-256 keys that sign access tokens (ES256, RFC 7518 section 3.4), and their public halves as a JSON Web
//! Key Set (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::SecretKey;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::error::Error;
use crate::secret::Secret;
use crate::store::{SigningKeys, StoredSigningKey};

/// A public key as a JSON Web Key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Jwk {
    kty: &'static str,
    crv: &'static str,
    x: String,
    y: String,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    kid: String,
}

/// A JSON Web Key Set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JwkSet {
    keys: Vec<Jwk>,
}

struct Key {
    kid: String,
    signing: SigningKey,
    jwk: Jwk,
}

/// The newest key, which signs, and the older ones, whose tokens are still good.
pub struct KeyRing {
    newest: Key,
    older: Vec<Key>,
}

impl KeyRing {
    /// Reads the keys from the store; makes the first where it has none.
    ///
    /// # Errors
    /// [`Error::Store`], or [`Error::Internal`] where a stored key cannot be read.
    pub async fn load(store: &dyn SigningKeys, now: OffsetDateTime) -> Result<Self, Error> {
        let mut stored = store.all().await?;
        if stored.is_empty() {
            store.insert_first(&generate(now)?).await?;
            stored = store.all().await?;
        }
        let mut keys = Vec::new();
        for key in &stored {
            keys.push(Key::from_pem(&key.pem)?);
        }
        if keys.is_empty() {
            return Err(Error::internal("the store kept no signing key"));
        }
        Ok(Self { newest: keys.remove(0), older: keys })
    }

    /// Id of the key that [`Self::sign`] uses.
    pub fn kid(&self) -> &str {
        &self.newest.kid
    }

    /// The signature in the fixed-length form of JWS (`R || S`, 64 bytes).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.newest.signing.sign(message);
        signature.to_bytes().to_vec()
    }

    /// Whether the key `kid` made this signature.
    pub fn verify(&self, kid: &str, message: &[u8], signature: &[u8]) -> bool {
        let Some(key) = self.keys().find(|key| key.kid == kid) else { return false };
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        VerifyingKey::from(&key.signing).verify(message, &signature).is_ok()
    }

    /// What others need to verify.
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.keys().map(|key| key.jwk.clone()).collect() }
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.newest).chain(&self.older)
    }
}

impl Key {
    fn from_pem(pem: &Secret) -> Result<Self, Error> {
        // The cause is dropped on purpose: nothing about a private key belongs in a log.
        let secret = SecretKey::from_pkcs8_pem(pem.expose());
        let secret =
            secret.map_err(|_| Error::internal("a stored signing key is not P-256 PKCS#8 in PEM"))?;
        let jwk = jwk(&secret)?;
        Ok(Self { kid: jwk.kid.clone(), signing: SigningKey::from(&secret), jwk })
    }
}

fn generate(now: OffsetDateTime) -> Result<StoredSigningKey, Error> {
    let secret = loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| Error::internal(error.to_string()))?;
        // Fails for zero and numbers past the group's order only: once in 2^32 tries.
        if let Ok(secret) = SecretKey::from_slice(&bytes) {
            break secret;
        }
    };
    let pem = secret.to_pkcs8_pem(LineEnding::LF).map_err(|error| Error::internal(error.to_string()))?;
    let pem = Secret::new(pem.to_string());
    Ok(StoredSigningKey { kid: jwk(&secret)?.kid, pem, created_at: now })
}

fn jwk(secret: &SecretKey) -> Result<Jwk, Error> {
    let point = secret.public_key().to_encoded_point(false);
    let (Some(x), Some(y)) = (point.x(), point.y()) else {
        return Err(Error::internal("a public key without coordinates"));
    };
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    Ok(Jwk { kty: "EC", crv: "P-256", kid: thumbprint(&x, &y), x, y, usage: "sig", alg: "ES256" })
}

/// RFC 7638 section 3.2: the required members, in this order, without white space.
fn thumbprint(x: &str, y: &str) -> String {
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

#[cfg(test)]
pub(super) fn ring_for_tests() -> KeyRing {
    let stored = generate(OffsetDateTime::UNIX_EPOCH).unwrap();
    KeyRing { newest: Key::from_pem(&stored.pem).unwrap(), older: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_64_bytes_and_holds_for_its_message_and_key_only() {
        let (ring, other) = (ring_for_tests(), ring_for_tests());
        let signature = ring.sign(b"message");
        assert_eq!(signature.len(), 64);
        assert!(ring.verify(ring.kid(), b"message", &signature));
        assert!(!ring.verify(ring.kid(), b"massage", &signature));
        assert!(!ring.verify(ring.kid(), b"message", &other.sign(b"message")));
        assert!(!ring.verify(other.kid(), b"message", &signature));
        assert!(!ring.verify(ring.kid(), b"message", b"short"));
    }

    #[test]
    fn thumbprint_is_the_digest_of_the_required_members() {
        // The key of RFC 7515 appendix A.3; its thumbprint was computed with openssl and coreutils.
        let thumbprint = thumbprint(
            "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        );
        assert_eq!(thumbprint, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    }

    #[test]
    fn jwks_has_no_private_member() {
        let jwks = serde_json::to_value(ring_for_tests().jwks()).unwrap();
        let members: Vec<&String> = jwks["keys"][0].as_object().unwrap().keys().collect();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    }
}
