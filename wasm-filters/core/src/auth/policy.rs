//! A policy, compiled from its configuration: checked once, then only read.
//!
//! Where a credential is and which provider it is for. Whether it holds is `token` and `api_key`.

use tollgate_filter_config::{AuthPolicy, AuthProvider, JwtProvider, OnFailure};

use super::kept::ClaimNames;
use super::refusal::{Challenges, Scheme};
use super::requirement::check_claims;
use crate::ConfigError;
use crate::api_key::KeyRing;
use crate::headers::{self, HeaderMap, Single};
use crate::jwks::KeySet;

/// One policy.
#[derive(Debug)]
pub struct Policy {
    /// In the order in which they are tried.
    pub providers: Vec<Provider>,
    /// Whether the credential of every provider must hold, not only the first that is there.
    pub all: bool,
    /// What the refused are told.
    pub challenges: Challenges,
    /// Whether a request without a credential passes.
    pub optional: bool,
    /// What happens where a credential can't be checked.
    pub on_failure: OnFailure,
    /// Claims to keep of each credential.
    pub keep: ClaimNames,
}

/// One way to authenticate.
#[derive(Debug)]
pub struct Provider {
    /// Scope of what is remembered of the tokens that come to it: shared by providers that read the same place, for which
    /// a token means the same, and by no others.
    pub scope: u32,
    /// Header the credential is in, lower case.
    pub header: String,
    /// What stands before the credential in it.
    pub prefix: String,
    /// Whether the credential goes on to the upstream.
    pub forward: bool,
    /// Its scheme in challenges.
    pub scheme: Scheme,
    /// What kind of credential it is.
    pub kind: Kind,
}

/// What is specific to a kind of credential.
#[derive(Debug)]
pub enum Kind {
    /// A JSON Web Token.
    Jwt {
        /// The checks, as configured.
        config: Box<JwtProvider>,
        /// The issuer's keys; `None` until they are known.
        keys: Option<KeySet>,
    },
    /// An API key.
    ApiKey(Box<KeyRing>),
}

/// What a request has in the header of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Nothing that is for this provider.
    Absent,
    /// A credential; it may be empty or anything else.
    Present(&'a [u8]),
    /// More than one value, of which one at least is for this provider.
    Repeated,
}

impl Policy {
    /// Compiles the configuration found at `path`. Of each credential, the claims `keep` are kept; what is remembered of
    /// tokens has scopes from `scope` on, as many as there are providers.
    pub fn new(
        config: &AuthPolicy,
        scope: u32,
        keep: &ClaimNames,
        seed: u64,
        path: &str,
    ) -> Result<Self, ConfigError> {
        if !headers::is_safe_value(&config.realm) {
            return Err(ConfigError::new(format!("{path}.realm"), "cannot be a header value"));
        }
        let (all, configured, path) = match (config.any_of.as_slice(), config.all_of.as_slice()) {
            ([], []) => return Err(ConfigError::new(format!("{path}.any_of"), "names no provider")),
            (any, []) => (false, any, format!("{path}.any_of")),
            ([], all) => (true, all, format!("{path}.all_of")),
            (_, _) => {
                let reason = "stands beside `any_of`: a policy has one of them";
                return Err(ConfigError::new(format!("{path}.all_of"), reason));
            }
        };
        let mut providers: Vec<Provider> = Vec::with_capacity(configured.len());
        for (index, provider) in configured.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let mut provider = Provider::new(provider, keep, seed, &path)?;
            if providers.iter().any(|earlier| earlier.shadows(&provider)) {
                let reason = "is never reached: an earlier provider has the same header, prefix and issuer";
                return Err(ConfigError::new(path, reason));
            }
            if all && providers.iter().any(|earlier| earlier.header == provider.header) {
                let reason =
                    "can't hold beside an earlier provider of the same header, which has one credential";
                return Err(ConfigError::new(path, reason));
            }
            let place = providers.iter().position(|earlier| earlier.same_place(&provider));
            provider.scope = scope.saturating_add(place.unwrap_or(index) as u32);
            providers.push(provider);
        }
        let challenges = Challenges::new(&config.realm, providers.iter().map(|p| p.scheme.clone()));
        let AuthPolicy { optional, on_failure, .. } = *config;
        Ok(Self { providers, all, challenges, optional, on_failure, keep: keep.clone() })
    }

    /// Index of the provider for a token of `issuer` that came in the header of provider `first`.
    pub fn provider_of_issuer(&self, first: &Provider, issuer: &str) -> Option<usize> {
        self.providers.iter().position(|provider| {
            matches!(&provider.kind, Kind::Jwt { config, .. } if config.issuer == issuer)
                && provider.same_place(first)
        })
    }
}

impl Provider {
    fn new(config: &AuthProvider, keep: &ClaimNames, seed: u64, path: &str) -> Result<Self, ConfigError> {
        let provider = match config {
            AuthProvider::Jwt(jwt) => {
                let path = format!("{path}.jwt");
                check_jwt(jwt, &path)?;
                let keys = match &jwt.jwks {
                    None => None,
                    Some(jwks) => Some(
                        KeySet::parse(jwks)
                            .map_err(|error| ConfigError::new(format!("{path}.jwks"), error.to_string()))?,
                    ),
                };
                let name = Some(jwt.prefix.trim()).filter(|name| is_token(name)).unwrap_or("Bearer");
                // The key set is kept in its compiled form only.
                let config = Box::new(JwtProvider { jwks: None, ..jwt.clone() });
                Self {
                    scope: 0,
                    header: jwt.header.clone(),
                    prefix: jwt.prefix.clone(),
                    forward: jwt.forward,
                    scheme: Scheme { name: name.to_owned(), invalid: "invalid_token" },
                    kind: Kind::Jwt { config, keys },
                }
            }
            AuthProvider::ApiKey(key) => {
                let path = format!("{path}.api_key");
                check_header(&key.header, &path)?;
                Self {
                    scope: 0,
                    header: key.header.clone(),
                    prefix: String::new(),
                    forward: key.forward,
                    scheme: Scheme { name: "ApiKey".to_owned(), invalid: "invalid_key" },
                    kind: Kind::ApiKey(Box::new(KeyRing::new(key, keep, seed, &path)?)),
                }
            }
        };
        Ok(provider)
    }

    /// What the request has for this provider. An empty header without a prefix is no credential.
    pub fn find<'h>(&self, headers: &HeaderMap<'h>) -> Credential<'h> {
        match headers::single(headers, &self.header) {
            Single::Absent => Credential::Absent,
            Single::Once(value) => match self.after_prefix(value) {
                Some(credential) => Credential::Present(credential),
                None => Credential::Absent,
            },
            Single::Repeated => {
                let mut values = headers::values(headers, &self.header);
                match values.any(|value| self.after_prefix(value).is_some()) {
                    true => Credential::Repeated,
                    false => Credential::Absent,
                }
            }
        }
    }

    /// The value after the prefix and the spaces around it (RFC 9110 section 11.4: `1*SP`). A scheme with
    /// nothing after it is an empty credential.
    fn after_prefix<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let prefix = self.prefix.as_bytes();
        if prefix.is_empty() {
            return (!value.is_empty()).then_some(value);
        }
        if value.eq_ignore_ascii_case(prefix.trim_ascii_end()) {
            return Some(&[]);
        }
        let (scheme, credential) = value.split_at_checked(prefix.len())?;
        scheme.eq_ignore_ascii_case(prefix).then(|| credential.trim_ascii())
    }

    fn same_place(&self, other: &Self) -> bool {
        self.header == other.header && self.prefix.eq_ignore_ascii_case(&other.prefix)
    }

    /// Whether no credential ever reaches `later`, because this provider takes it.
    fn shadows(&self, later: &Self) -> bool {
        self.same_place(later)
            && match (&self.kind, &later.kind) {
                (Kind::Jwt { config, .. }, Kind::Jwt { config: later, .. }) => config.issuer == later.issuer,
                _ => true,
            }
    }
}

fn check_jwt(jwt: &JwtProvider, path: &str) -> Result<(), ConfigError> {
    check_header(&jwt.header, path)?;
    let refuse = |field: &str, reason: &str| Err(ConfigError::new(format!("{path}.{field}"), reason));
    if jwt.issuer.is_empty() {
        return refuse("issuer", "is empty");
    }
    if jwt.algorithms.is_empty() {
        return refuse("algorithms", "is empty, so no token could be accepted");
    }
    if jwt.prefix.chars().any(char::is_control) {
        return refuse("prefix", "holds a control character");
    }
    check_claims(&jwt.required_claims, &format!("{path}.required_claims"))?;
    for (index, mapping) in jwt.claims_to_headers.iter().enumerate() {
        if mapping.claim.is_empty() {
            return refuse(&format!("claims_to_headers[{index}].claim"), "is empty");
        }
        if !headers::is_valid_name(&mapping.header) {
            return refuse(&format!("claims_to_headers[{index}].header"), "is not a lower-case header name");
        }
    }
    Ok(())
}

fn check_header(header: &str, path: &str) -> Result<(), ConfigError> {
    match headers::is_valid_name(header) {
        true => Ok(()),
        false => Err(ConfigError::new(format!("{path}.header"), "is not a lower-case header name")),
    }
}

/// A token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    headers::is_valid_name(&text.to_ascii_lowercase())
}
