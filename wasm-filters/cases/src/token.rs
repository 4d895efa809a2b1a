//! Mints tokens, good and bad ones: every part can be said, and the signature need not fit.

use serde_json::{Map, Value, json};

use crate::keys::{self, Keys, base64};

/// A token before it is signed. Starts as one that the cases' policy accepts.
#[derive(Debug, Clone)]
pub struct Token {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

/// Issuer and audience that the cases' policy asks for.
pub(crate) const ISSUER: &str = "https://issuer.example";
pub(crate) const AUDIENCE: &str = "api";

impl Token {
    /// A good token at `now` (seconds since the epoch) for algorithm `alg`, signed by the key `kid`.
    pub fn new(alg: &str, kid: &str, now: u64) -> Self {
        let header = json!({ "alg": alg, "typ": "JWT", "kid": kid });
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "jti": "t-1", "iat": now, "exp": now + 3600,
            "scope": "read write", "plan": { "name": "gold", "calls": 7 },
        });
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        Self { header: map(header), claims: map(claims) }
    }

    /// A good RS256 token.
    pub fn rs256(now: u64) -> Self {
        Self::new("RS256", "rs", now)
    }

    /// Sets a claim; `null` removes it.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        set(&mut self.claims, name, value.into());
        self
    }

    /// Sets a header parameter; `null` removes it.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: impl Into<Value>) -> Self {
        set(&mut self.header, name, value.into());
        self
    }

    /// Signs with the RSA key of the key set.
    pub fn sign_rsa(&self, keys: &Keys) -> String {
        self.sign_rsa_as(keys, self.alg())
    }

    /// Signs with the RSA key as `alg` does, whatever the header says.
    pub(crate) fn sign_rsa_as(&self, keys: &Keys, alg: &str) -> String {
        self.with(|input| keys::rsa_sign(&keys.rsa, &keys.random, alg, input))
    }

    /// Signs with an RSA key that nobody knows.
    pub fn sign_other_rsa(&self, keys: &Keys) -> String {
        self.with(|input| keys::rsa_sign(&keys.other_rsa, &keys.random, self.alg(), input))
    }

    /// Signs with the P-256 key, or with the P-384 key for ES384, or with the P-521 key for ES512.
    pub fn sign_ec(&self, keys: &Keys) -> String {
        self.with(|input| keys.ec_sign(self.alg(), input))
    }

    /// Signs with the Ed25519 key.
    pub fn sign_ed(&self, keys: &Keys) -> String {
        self.with(|input| keys.ed.sign(input).as_ref().to_vec())
    }

    /// Signs with the HMAC key, or with another secret.
    pub fn sign_hmac(&self, secret: Option<&[u8]>) -> String {
        self.with(|input| ring::hmac::sign(&keys::hmac_key(secret), input).as_ref().to_vec())
    }

    /// Signs with the key for HS384 or HS512.
    pub fn sign_long_hmac(&self) -> String {
        self.with(|input| ring::hmac::sign(&keys::long_hmac_key(self.alg()), input).as_ref().to_vec())
    }

    /// Has no signature.
    pub fn unsigned(&self) -> String {
        self.with(|_| Vec::new())
    }

    fn alg(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or_default()
    }

    fn with(&self, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let part = |map: &Map<String, Value>| base64(Value::Object(map.clone()).to_string());
        let input = format!("{}.{}", part(&self.header), part(&self.claims));
        let signature = base64(sign(input.as_bytes()));
        format!("{input}.{signature}")
    }
}

fn set(map: &mut Map<String, Value>, name: &str, value: Value) {
    match value {
        Value::Null => map.remove(name),
        value => map.insert(name.to_owned(), value),
    };
}

/// The token with one bit of its signature changed.
pub(crate) fn spoiled(token: &str) -> String {
    let Some((input, signature)) = token.rsplit_once('.') else { return token.to_owned() };
    // Not the last character: its low bits may be padding, which is refused as malformed instead.
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{input}.{first}{}", signature.get(1..).unwrap_or_default())
}
