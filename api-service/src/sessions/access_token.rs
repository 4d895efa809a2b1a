//! Access tokens: JSON Web Tokens (RFC 7519) that the gateway verifies by itself.
//!
//! Both directions are here and small because only one algorithm is spoken: a token says ES256 or is refused,
//! so there is no negotiation to get wrong.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Error;
use crate::id::{AccountId, SessionId};
use crate::secret::Secret;

use super::signing::KeyRing;

/// What a token of ours may be used for; routes ask for it by `required_scopes`.
const SCOPE: &str = "api";
/// Longer tokens are not ours: refused before any work.
const LONGEST: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
    /// The session (OpenID Connect Front-Channel Logout section 3). Not read here: what has ended is the gateway's to know.
    #[serde(default)]
    sid: String,
    scope: String,
}

/// Issues and verifies access tokens.
pub struct AccessTokens {
    keys: Arc<KeyRing>,
    issuer: String,
    audience: String,
    ttl: Duration,
}

impl AccessTokens {
    /// Tokens of `issuer` for `audience` that live for `ttl`.
    pub fn new(keys: Arc<KeyRing>, issuer: String, audience: String, ttl: Duration) -> Self {
        Self { keys, issuer, audience, ttl }
    }

    /// How long a token works.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// A new token for the account, of the session.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn issue(
        &self,
        account: AccountId,
        session: SessionId,
        now: OffsetDateTime,
    ) -> Result<Secret, Error> {
        let header =
            Header { alg: "ES256".to_owned(), typ: "JWT".to_owned(), kid: self.keys.kid().to_owned() };
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: account.to_string(),
            iat: now.unix_timestamp(),
            nbf: now.unix_timestamp(),
            exp: (now + self.ttl).unix_timestamp(),
            jti: Uuid::new_v4().to_string(),
            sid: session.to_string(),
            scope: SCOPE.to_owned(),
        };
        let header = serde_json::to_vec(&header).map_err(Error::internal)?;
        let claims = serde_json::to_vec(&claims).map_err(Error::internal)?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.keys.sign(signed.as_bytes()));
        Ok(Secret::new(format!("{signed}.{signature}")))
    }

    /// Whose token this is. No leeway in time: the clock that issued it is ours too.
    ///
    /// # Errors
    /// [`Error::InvalidToken`].
    pub fn verify(&self, token: &Secret, now: OffsetDateTime) -> Result<AccountId, Error> {
        self.verified(token.expose(), now.unix_timestamp()).ok_or(Error::InvalidToken)
    }

    fn verified(&self, token: &str, now: i64) -> Option<AccountId> {
        let (signed, signature) = token.rsplit_once('.').filter(|_| token.len() <= LONGEST)?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if header.alg != "ES256" || !self.keys.verify(&header.kid, signed.as_bytes(), &signature) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let ours = claims.iss == self.issuer && claims.aud == self.audience;
        let in_time = claims.nbf <= now && now < claims.exp;
        if ours && in_time { claims.sub.parse().ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sessions::signing::ring_for_tests;

    fn tokens(keys: &Arc<KeyRing>, issuer: &str, audience: &str) -> AccessTokens {
        let ttl = Duration::from_secs(900);
        AccessTokens::new(Arc::clone(keys), issuer.to_owned(), audience.to_owned(), ttl)
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn a_token_works_from_its_issue_until_just_before_its_expiry() {
        let tokens = tokens(&Arc::new(ring_for_tests()), "iss", "aud");
        let account = AccountId::new();
        let token = tokens.issue(account, SessionId::new(), at(1000)).unwrap();
        for (now, works) in [(999, false), (1000, true), (1899, true), (1900, false)] {
            assert_eq!(tokens.verify(&token, at(now)).ok(), works.then_some(account), "at {now}");
        }
    }

    #[test]
    fn tokens_of_other_issuers_audiences_and_keys_are_refused() {
        let keys = Arc::new(ring_for_tests());
        let ours = tokens(&keys, "iss", "aud");
        let other_keys = Arc::new(ring_for_tests());
        for other in
            [tokens(&keys, "other", "aud"), tokens(&keys, "iss", "other"), tokens(&other_keys, "iss", "aud")]
        {
            let token = other.issue(AccountId::new(), SessionId::new(), at(1000)).unwrap();
            assert!(ours.verify(&token, at(1000)).is_err());
        }
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let tokens = tokens(&Arc::new(ring_for_tests()), "iss", "aud");
        let token = tokens.issue(AccountId::new(), SessionId::new(), at(1000)).unwrap();
        let claims = token.expose().split('.').nth(1).unwrap();
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT","kid":""}"#);
        for forged in [format!("{header}.{claims}."), format!("{header}.{claims}")] {
            assert!(tokens.verify(&Secret::new(forged), at(1000)).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_token_with_any_character_changed_is_refused(position: prop::sample::Index, letter in "[A-Za-z0-9._-]") {
            let tokens = tokens(&Arc::new(ring_for_tests()), "iss", "aud");
            let token = tokens.issue(AccountId::new(), SessionId::new(), at(1000)).unwrap();
            let position = position.index(token.expose().len());
            let mut changed = token.expose().to_owned();
            changed.replace_range(position..=position, &letter);
            prop_assert_eq!(tokens.verify(&Secret::new(&changed), at(1000)).is_ok(), changed == token.expose());
        }

        #[test]
        fn any_text_is_verified_or_refused(text in any::<String>()) {
            let tokens = tokens(&Arc::new(ring_for_tests()), "iss", "aud");
            prop_assert!(tokens.verify(&Secret::new(text), at(1000)).is_err());
        }
    }
}
