//! Who is calling: the headers that tell the upstream, and the claims that policies ask for.
//!
//! Which client headers go is `auth`'s; here is what takes their place.

use serde_json::Value;
use tollgate_filter_config::{CONSUMER_HEADER, CREDENTIAL_ID_HEADER, CREDENTIAL_TYPE_HEADER, ClaimToHeader};

use super::kept::{ClaimNames, KeptClaim, KeptClaims};
use crate::headers;
use crate::jwt::Claims;
use crate::revocations::Revocable;

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `None` means that the header must not be there, whoever sent it.
    headers: Vec<(String, Option<String>)>,
    claims: KeptClaims,
    /// What it may be refused by, though its credential is good.
    pub(super) revocable: Revocable,
}

/// The subject holds control bytes or outer spaces, or is no string: no header could tell it, and a token
/// without its subject must not pass for one of nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnusableSubject;

impl Identity {
    /// The owner of an API key. Consumer and id were checked when they came in.
    pub fn of_api_key(consumer: &str, id: &str, claims: KeptClaims) -> Self {
        Self::new(Some(consumer.to_owned()), "api_key", Some(id.to_owned()), claims)
    }

    /// The subject of a verified token, with the claims that are to be kept. Those that cannot be header values, and those
    /// that are empty, are left out of `mapping`'s headers.
    pub fn of_token(
        claims: &Claims,
        mapping: &[ClaimToHeader],
        keep: &ClaimNames,
    ) -> Result<Self, UnusableSubject> {
        let subject = match claims.get("sub") {
            None | Some(Value::Null) => None,
            Some(Value::String(subject)) if subject.is_empty() => None,
            Some(Value::String(subject)) if headers::is_safe_value(subject) => Some(subject.clone()),
            Some(_) => return Err(UnusableSubject),
        };
        let safe = |text: &String| headers::is_safe_value(text);
        let id = claims.get("jti").and_then(Value::as_str).map(str::to_owned).filter(safe);
        let mut identity = Self::new(subject, "jwt", id, keep.keep(claims));
        for ClaimToHeader { claim, header } in mapping {
            let value = claims.text(claim).filter(|text| !text.is_empty() && safe(text));
            match identity.headers.iter_mut().find(|(name, _)| name == header) {
                Some((_, old)) => *old = value,
                None => identity.headers.push((header.clone(), value)),
            }
        }
        Ok(identity)
    }

    /// The same, unless it is revoked.
    #[must_use]
    pub fn with_revocable(self, revocable: Revocable) -> Self {
        Self { revocable, ..self }
    }

    /// The text of a claim: a string as it is, anything else as JSON. Only claims that the configuration names
    /// are known ([`tollgate_filter_config::AuthConfig::claims`]); nothing is parsed.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).map(KeptClaim::text)
    }

    /// Whether the claim (see [`Self::claim`]) is one of `accepted`, or a list that holds one.
    pub fn is_one_of(&self, name: &str, accepted: &[String]) -> bool {
        self.claims.get(name).is_some_and(|claim| claim.is_one_of(accepted))
    }

    /// Whether the credential has a scope, which must be one that the configuration names.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.claims.has_scope(scope)
    }

    /// The same caller with the claim headers of further credentials. Of a header that several of them set or remove, the
    /// first has the word; who calls, and the claims, are this one's.
    pub fn and<'a>(&self, others: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut both = self.clone();
        for (name, value) in others.into_iter().flat_map(|other| &other.headers) {
            if !both.headers.iter().any(|(have, _)| have == name) {
                both.headers.push((name.clone(), value.clone()));
            }
        }
        both
    }

    /// Header names, lower case, and the value each must have.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// The value that this sets `name` to.
    pub fn value(&self, name: &[u8]) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.as_bytes() == name)?.1.as_deref()
    }

    /// Whether this sets `name`, so that what the client sent is replaced.
    pub fn sets(&self, name: &[u8]) -> bool {
        self.value(name).is_some()
    }

    /// Whether `name` must not be there.
    pub fn removes(&self, name: &[u8]) -> bool {
        self.headers.iter().any(|(n, value)| n.as_bytes() == name && value.is_none())
    }

    fn new(consumer: Option<String>, credential_type: &str, id: Option<String>, claims: KeptClaims) -> Self {
        let headers = vec![
            (CONSUMER_HEADER.to_owned(), consumer),
            (CREDENTIAL_TYPE_HEADER.to_owned(), Some(credential_type.to_owned())),
            (CREDENTIAL_ID_HEADER.to_owned(), id),
        ];
        Self { headers, claims, revocable: Revocable::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::Jwt;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    fn identity(
        claims: &str,
        mapping: &[(&str, &str)],
    ) -> Result<Vec<(String, Option<String>)>, UnusableSubject> {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let token = format!("{header}.{}.", URL_SAFE_NO_PAD.encode(claims));
        let mapping: Vec<_> = mapping
            .iter()
            .map(|(claim, header)| ClaimToHeader { claim: (*claim).into(), header: (*header).into() })
            .collect();
        let claims = Jwt::parse(token.as_bytes()).unwrap().claims;
        Ok(Identity::of_token(&claims, &mapping, &ClaimNames::default())?.headers)
    }

    fn pair(name: &str, value: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn claims_become_headers() {
        let claims = r#"{"sub":"alice","jti":"t1","org":{"id":7},"bad":"a\r\nb"}"#;
        let mapping = [("org.id", "x-org"), ("bad", "x-bad"), ("none", "x-none")];
        let expected = [
            pair(CONSUMER_HEADER, Some("alice")),
            pair(CREDENTIAL_TYPE_HEADER, Some("jwt")),
            pair(CREDENTIAL_ID_HEADER, Some("t1")),
            pair("x-org", Some("7")),
            pair("x-bad", None),
            pair("x-none", None),
        ];
        assert_eq!(identity(claims, &mapping).unwrap(), expected);
    }

    #[test]
    fn a_mapped_claim_may_take_the_place_of_the_subject() {
        let headers = identity(r#"{"sub":"s","client_id":"c"}"#, &[("client_id", CONSUMER_HEADER)]).unwrap();
        assert_eq!(headers[0], pair(CONSUMER_HEADER, Some("c")));
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn subjects_that_no_header_can_tell_are_refused() {
        for claims in [r#"{"sub":"a\nb"}"#, r#"{"sub":" a"}"#, r#"{"sub":7}"#, r#"{"sub":["a"]}"#] {
            assert_eq!(identity(claims, &[]), Err(UnusableSubject), "{claims}");
        }
        for claims in ["{}", r#"{"sub":""}"#, r#"{"sub":null}"#] {
            assert_eq!(identity(claims, &[]).unwrap()[0], pair(CONSUMER_HEADER, None), "{claims}");
        }
    }
}
