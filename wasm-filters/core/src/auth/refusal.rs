//! What a refused caller is told: status, problem document, `WWW-Authenticate` challenges.
//!
//! Whether to refuse is decided elsewhere. The words are fixed, so no part of a credential is ever echoed.

use std::time::Duration;

use crate::problem::{LocalResponse, quoted};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No credential of the policy's was sent.
    Missing,
    /// The credential's header came more than once.
    Repeated,
    /// The credential does not hold, and why.
    Invalid(String),
    /// The credential is good, but lacks a scope. These are needed.
    Scope(Vec<String>),
    /// The credential is good, but a claim is not what it must be.
    Claim,
    /// Whether it is good cannot be said now: a stable code, and why.
    Unavailable(&'static str, &'static str),
}

/// An authentication scheme of a policy, as its challenge names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheme {
    /// `Bearer`, `ApiKey`.
    pub name: String,
    /// `error` of a credential that does not hold.
    pub invalid: &'static str,
}

/// The challenges of a policy, one a scheme, in the order of its providers.
#[derive(Debug, Clone)]
pub struct Challenges {
    realm: String,
    schemes: Vec<Scheme>,
}

impl Challenges {
    /// Challenges with `realm` for `schemes`, each named once.
    pub fn new(realm: &str, schemes: impl IntoIterator<Item = Scheme>) -> Self {
        let mut unique: Vec<Scheme> = Vec::new();
        for scheme in schemes {
            if !unique.iter().any(|s| s.name.eq_ignore_ascii_case(&scheme.name)) {
                unique.push(scheme);
            }
        }
        Self { realm: realm.to_owned(), schemes: unique }
    }

    /// Those for `schemes` alone, which are missing beside others that are there.
    pub fn of(&self, schemes: impl IntoIterator<Item = Scheme>) -> Self {
        Self::new(&self.realm, schemes)
    }

    /// The response to `refusal`; `scheme` is that of the credential which was sent.
    pub fn response(&self, refusal: &Refusal, scheme: Option<&Scheme>) -> LocalResponse {
        let (status, code, detail) = match refusal {
            Refusal::Missing => (401, "missing_credential", "this route needs a credential"),
            Refusal::Repeated => (400, "invalid_request", "the credential was sent more than once"),
            Refusal::Invalid(why) => (401, scheme.map_or("invalid_token", |s| s.invalid), why.as_str()),
            Refusal::Scope(_) => {
                (403, "insufficient_scope", "the credential lacks a scope that this route needs")
            }
            Refusal::Claim => {
                (403, "insufficient_claims", "the credential is not one that this route is for")
            }
            Refusal::Unavailable(code, why) => {
                return LocalResponse::unavailable(code, why, Duration::from_secs(1));
            }
        };
        let mut response = LocalResponse::problem(status, code, detail);
        let realm = quoted(&self.realm);
        if let Some(scheme) = scheme {
            // RFC 6750 section 3: attributes of the error, for the scheme that was tried.
            // That it lacks a claim has no error of its own there.
            let error = if *refusal == Refusal::Claim { "insufficient_scope" } else { code };
            let mut challenge = format!("{} realm={realm}, error={}", scheme.name, quoted(error));
            challenge.push_str(&format!(", error_description={}", quoted(detail)));
            if let Refusal::Scope(scopes) = refusal {
                challenge.push_str(&format!(", scope={}", quoted(&scopes.join(" "))));
            }
            response = response.with_header("www-authenticate", challenge);
        }
        // RFC 9110 section 11.6.1: a 401 names every scheme. One field each, since lists of challenges are
        // read wrong by some clients.
        if status == 401 {
            let tried = |other: &&Scheme| scheme.is_none_or(|s| !s.name.eq_ignore_ascii_case(&other.name));
            for other in self.schemes.iter().filter(tried) {
                response = response.with_header("www-authenticate", format!("{} realm={realm}", other.name));
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenges() -> (Challenges, Scheme, Scheme) {
        let bearer = Scheme { name: "Bearer".into(), invalid: "invalid_token" };
        let key = Scheme { name: "ApiKey".into(), invalid: "invalid_key" };
        (Challenges::new("a \"b\"", [bearer.clone(), key.clone(), bearer.clone()]), bearer, key)
    }

    fn www(response: &LocalResponse) -> Vec<&str> {
        let of = |(name, value): &'_ (&'static str, String)| *name == "www-authenticate" && !value.is_empty();
        response.headers.iter().filter(|h| of(h)).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn without_credentials_each_scheme_is_named_without_an_error() {
        let (challenges, ..) = challenges();
        let response = challenges.response(&Refusal::Missing, None);
        assert_eq!(response.status, 401);
        assert_eq!(www(&response), [r#"Bearer realm="a \"b\"""#, r#"ApiKey realm="a \"b\"""#]);
    }

    #[test]
    fn the_scheme_that_failed_says_why_and_comes_first() {
        let (challenges, _, key) = challenges();
        let response = challenges.response(&Refusal::Invalid("the API key is unknown".into()), Some(&key));
        assert_eq!(
            www(&response),
            [
                r#"ApiKey realm="a \"b\"", error="invalid_key", error_description="the API key is unknown""#,
                r#"Bearer realm="a \"b\"""#,
            ]
        );
    }

    #[test]
    fn missing_scope_is_403_and_names_it() {
        let (challenges, bearer, _) = challenges();
        let refusal = Refusal::Scope(vec!["read".into(), "write".into()]);
        let response = challenges.response(&refusal, Some(&bearer));
        assert_eq!(response.status, 403);
        let www = www(&response);
        assert_eq!(www.len(), 1);
        assert!(www[0].contains(r#"error="insufficient_scope""#), "{www:?}");
        assert!(www[0].ends_with(r#"scope="read write""#), "{www:?}");
    }

    #[test]
    fn unavailable_is_503_with_a_time_and_no_challenge() {
        let (challenges, bearer, _) = challenges();
        let response = challenges.response(&Refusal::Unavailable("jwks_unavailable", "why"), Some(&bearer));
        assert_eq!(response.status, 503);
        assert!(response.headers.contains(&("retry-after", "1".to_owned())));
        assert!(www(&response).is_empty());
    }
}
