//! JSON Web Tokens in compact form (RFC 7515, RFC 7519), taken apart.
//!
//! Form only: sizes, base64url, the header's own rules. Whether a signature holds is `signature`, which key
//! it needs is `jwks`, and whether the claims please a policy is `auth`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tollgate_filter_config::Algorithm;

mod claims;

pub use claims::Claims;

/// Longest token that is looked at. Envoy's own header limit is 60 KiB; no issuer needs that, and everything
/// a request costs grows with it.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token whose form is right. Nothing in it is proved.
#[derive(Debug, Clone, PartialEq)]
pub struct Jwt<'a> {
    /// What the signature is over: header and claims, still encoded.
    pub signing_input: &'a [u8],
    /// The decoded signature.
    pub signature: Vec<u8>,
    /// Algorithm the header names.
    pub algorithm: Algorithm,
    /// Key the header names.
    pub key_id: Option<String>,
    /// The claims set.
    pub claims: Claims,
}

/// Why a token's form is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is too long")]
    TooLong,
    /// Not three base64url parts of JSON, JSON and bytes.
    #[error("the token is malformed")]
    Malformed,
    /// `alg` is `none` or not one of ours.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// `typ` says the token is for something else (RFC 8725 section 3.11).
    #[error("the token's type is not accepted")]
    Type,
    /// `crit` names extensions that must be understood; we understand none (RFC 7515 section 4.1.11).
    #[error("the token needs an extension that is not supported")]
    Critical,
}

/// JOSE header. Members that are not here are passed over, as RFC 7515 section 4 has it; a member of ours
/// that comes twice is an error (serde's derive refuses it).
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

impl<'a> Jwt<'a> {
    /// Takes `token` apart.
    pub fn parse(token: &'a [u8]) -> Result<Self, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::TooLong);
        }
        let mut dots = token.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(JwtError::Malformed);
        };
        let (signing_input, signature) = token.split_at_checked(second).ok_or(JwtError::Malformed)?;
        let (header, claims) = signing_input.split_at_checked(first).ok_or(JwtError::Malformed)?;

        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| JwtError::Malformed)?;
        if header.crit.is_some() {
            return Err(JwtError::Critical);
        }
        if header.typ.is_some_and(|typ| !is_access_token_type(&typ)) {
            return Err(JwtError::Type);
        }
        let algorithm = algorithm(&header.alg).ok_or(JwtError::Algorithm)?;
        let claims = serde_json::from_slice(&decode(after_dot(claims))?).map_err(|_| JwtError::Malformed)?;
        let signature = decode(after_dot(signature))?;
        Ok(Self { signing_input, signature, algorithm, key_id: header.kid, claims: Claims(claims) })
    }
}

/// An `alg` value (RFC 7518 section 3.1, RFC 8037 section 3.1), case-sensitive; `None` for `none` and others.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "ES512" => Algorithm::ES512,
        "EdDSA" => Algorithm::EdDSA,
        "HS256" => Algorithm::HS256,
        "HS384" => Algorithm::HS384,
        "HS512" => Algorithm::HS512,
        _ => return None,
    })
}

/// `JWT` (RFC 7519 section 5.1) or `at+jwt` (RFC 9068), as media types with or without `application/`.
fn is_access_token_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

fn after_dot(part: &[u8]) -> &[u8] {
    part.get(1..).unwrap_or_default()
}

/// base64url without padding (RFC 7515 section 2); bits left over at the end must be zero, so that one token
/// has one spelling.
fn decode(text: &[u8]) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;
    use proptest::prelude::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn rfc_7515_a1_is_read() {
        let jwt = Jwt::parse(vectors::HS256_TOKEN.as_bytes()).unwrap();
        assert_eq!(jwt.algorithm, Algorithm::HS256);
        assert_eq!(jwt.key_id, None);
        assert_eq!(jwt.claims.issuer(), Some("joe"));
        assert_eq!(jwt.claims.expires_at(), Some(1_300_819_380));
        assert_eq!(jwt.signature.len(), 32);
    }

    #[test]
    fn form_decides() {
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        let cases: [(&str, String, JwtError); 17] = [
            ("empty", String::new(), JwtError::Malformed),
            ("two parts", "e30.e30".into(), JwtError::Malformed),
            ("four parts", "e30.e30.e30.e30".into(), JwtError::Malformed),
            ("dots only", "..".into(), JwtError::Malformed),
            ("too long", long, JwtError::TooLong),
            ("padding", "e30=.e30=.".into(), JwtError::Malformed),
            ("standard alphabet", "ey+/.e30.".into(), JwtError::Malformed),
            (
                "left-over bits",
                format!("{}.e31.", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#)),
                JwtError::Malformed,
            ),
            ("header is no object", token("[]", "{}"), JwtError::Malformed),
            ("claims are no object", token(r#"{"alg":"HS256"}"#, "[]"), JwtError::Malformed),
            ("no alg", token("{}", "{}"), JwtError::Malformed),
            ("alg twice", token(r#"{"alg":"HS256","alg":"none"}"#, "{}"), JwtError::Malformed),
            ("alg none", token(r#"{"alg":"none"}"#, "{}"), JwtError::Algorithm),
            ("alg in other case", token(r#"{"alg":"hs256"}"#, "{}"), JwtError::Algorithm),
            (
                "unknown crit",
                token(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "{}"),
                JwtError::Critical,
            ),
            ("empty crit", token(r#"{"alg":"HS256","crit":[]}"#, "{}"), JwtError::Critical),
            ("other typ", token(r#"{"alg":"HS256","typ":"logout+jwt"}"#, "{}"), JwtError::Type),
        ];
        for (what, token, error) in cases {
            assert_eq!(Jwt::parse(token.as_bytes()).unwrap_err(), error, "{what}");
        }
    }

    #[test]
    fn types_of_access_tokens_are_read() {
        for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt", "application/JWT"] {
            let token = token(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#), "{}");
            assert!(Jwt::parse(token.as_bytes()).is_ok(), "{typ}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let token = token(r#"{"alg":"HS256"}"#, &format!(r#"{{"a":{deep}}}"#));
        assert!(Jwt::parse(token.as_bytes()).is_err());
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        let token = self::token(r#"{"alg":"HS256"}"#, &format!(r#"{{"a":{deep}}}"#));
        assert_eq!(Jwt::parse(token.as_bytes()).unwrap_err(), JwtError::Malformed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Jwt::parse(&bytes);
        }

        #[test]
        fn any_json_is_survived(header in ".{0,60}", claims in ".{0,60}") {
            let _ = Jwt::parse(token(&header, &claims).as_bytes());
            let _ = Jwt::parse(token(r#"{"alg":"HS256"}"#, &claims).as_bytes());
        }
    }
}
