//! Who may pass, and as whom: the decision of the auth filter.
//!
//! ```text
//! route's policy + headers ─► first provider whose credential is present
//!    ├─ JWT:     cache ─► form ─► issuer ─► time, audience ─► key ─► signature ─► scopes
//!    └─ API key: configured ─► remembered ─► introspection (the caller asks, then `resume`s)
//! ─► allow (headers to remove, identity to set) or a response
//! ```
//!
//! Headers that state an identity are the filter's alone: what the client sent under those names goes on
//! every route, also where no policy applies. No host call is made here.
//!
//! The policy is that of the route which Envoy matched on the headers as they came. Envoy matches again at
//! its router, on the headers as this decision left them, so a route must not be matched by a header that is
//! removed or set here (identities, credentials): two routes could then share one request.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tollgate_filter_config::{
    AuthConfig, AuthProvider, CONSUMER_HEADER, CREDENTIAL_ID_HEADER, CREDENTIAL_TYPE_HEADER, Introspection,
    OnFailure, RevocationService,
};

use crate::api_key::{self, Answer, KeyHash, KeyRing, Lookup};
use crate::cache::Cache;
use crate::headers::{self, HeaderMap};
use crate::problem::LocalResponse;
use crate::revocations::Revocations;
use crate::signature::HostVerifier;
use crate::{ConfigError, config_error};

mod identity;
mod kept;
mod policy;
mod refusal;
#[cfg(test)]
mod tests;
mod token;

pub use identity::{Identity, UnusableSubject};
pub use kept::{ClaimNames, KeptClaim, KeptClaims};
use policy::{Credential, Kind, Policy, Provider};
use refusal::Refusal;
use token::Verified;

/// Verified tokens remembered in each of two generations. With [`crate::jwt::MAX_TOKEN_BYTES`] that is
/// 8 MiB a worker at the very most, and about 1 MiB with tokens of usual size.
const TOKENS_PER_GENERATION: usize = 512;

/// The auth filter's configuration, compiled, with what was learnt while serving.
#[derive(Debug)]
pub struct Authenticator {
    trust_identity_headers: bool,
    /// Every header that states an identity, under any policy.
    identity_headers: Vec<String>,
    policies: BTreeMap<String, Policy>,
    /// By the whole token, so that no hash stands between a forged token and a good one.
    tokens: RefCell<Cache<Rc<Verified>>>,
    revocation_service: Option<RevocationService>,
    revocations: Rc<RefCell<Revocations>>,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision<'h> {
    /// It goes on, with these changes.
    Allow(Allowed<'h>),
    /// It is answered here.
    Deny(LocalResponse),
    /// Ask the introspection service, then call [`Authenticator::resume`].
    Introspect(Pending),
}

/// How a request goes on. Headers are removed first, then set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allowed<'h> {
    /// Headers to remove, each of them there.
    pub remove: Vec<&'h [u8]>,
    /// Who is calling, where a policy applied.
    pub identity: Option<Rc<Identity>>,
    /// Whether the credential was already known, so that nothing was verified.
    pub cached: bool,
    /// Whether it goes on though its credential could not be checked.
    pub failed_open: bool,
}

/// A request that waits for introspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    policy: String,
    provider: usize,
    hash: KeyHash,
    /// Where to ask.
    pub introspection: Introspection,
}

impl Pending {
    /// Body of the call.
    pub fn body(&self) -> String {
        api_key::request_body(&self.hash)
    }
}

impl Authenticator {
    /// Reads and checks a plugin configuration. `seed` is for hash tables, see [`Cache::new`].
    pub fn from_json(json: &[u8], seed: u64) -> Result<Self, ConfigError> {
        Self::new(&config_error::parse(json)?, seed)
    }

    /// Checks a configuration.
    pub fn new(config: &AuthConfig, seed: u64) -> Result<Self, ConfigError> {
        let mut identity_headers =
            [CONSUMER_HEADER, CREDENTIAL_TYPE_HEADER, CREDENTIAL_ID_HEADER].map(str::to_owned).to_vec();
        identity_headers.extend(config.claim_headers.iter().cloned());
        if let Some(index) = config.claims.iter().position(String::is_empty) {
            return Err(ConfigError::new(format!("claims[{index}]"), "is empty"));
        }
        let keep = ClaimNames::new(config.claims.iter().map(String::as_str));
        let mut policies = BTreeMap::new();
        for (number, (name, policy)) in (0..).zip(&config.policies) {
            let path = format!("policies.{name}");
            policies.insert(name.clone(), Policy::new(policy, number, &keep, seed, &path)?);
            for provider in &policy.any_of {
                if let AuthProvider::Jwt(jwt) = provider {
                    identity_headers.extend(jwt.claims_to_headers.iter().map(|claim| claim.header.clone()));
                }
            }
        }
        identity_headers.sort_unstable();
        identity_headers.dedup();
        Ok(Self {
            trust_identity_headers: config.trust_identity_headers,
            identity_headers,
            policies,
            tokens: RefCell::new(Cache::new(TOKENS_PER_GENERATION, seed)),
            revocation_service: config.revocations.clone(),
            revocations: Rc::default(),
        })
    }

    /// Has it refuse what is revoked there, from now on.
    pub fn refuse_revoked(&mut self, revocations: &Rc<RefCell<Revocations>>) {
        self.revocations = Rc::clone(revocations);
    }

    /// Who is asked what was revoked.
    pub fn revocation_service(&self) -> Option<&RevocationService> {
        self.revocation_service.as_ref()
    }

    /// Decides on a request with `headers` on a route with `policy`, at `now` (since the epoch).
    pub fn decide<'h>(
        &self,
        policy: Option<&str>,
        headers: &HeaderMap<'h>,
        now: Duration,
        host: &dyn HostVerifier,
    ) -> Decision<'h> {
        let Some(name) = policy else {
            return self.allow(None, headers, None, false);
        };
        let Some(policy) = self.policies.get(name) else {
            return unknown_policy();
        };
        for (index, provider) in policy.providers.iter().enumerate() {
            let refuse = |refusal| self.refuse(policy, provider, headers, &refusal);
            let credential = match provider.find(headers) {
                Credential::Absent => continue,
                Credential::Repeated => return refuse(Refusal::Repeated),
                Credential::Present(credential) => credential,
            };
            return match &provider.kind {
                Kind::Jwt { .. } => match self.check_token(policy, provider, credential, now, host) {
                    Ok((decider, identity, cached)) => {
                        self.allow(Some((policy, decider)), headers, Some(identity), cached)
                    }
                    Err(refusal) => refuse(refusal),
                },
                Kind::ApiKey(ring) => match check_key(ring, credential, now) {
                    Ok(Checked::Known(identity, _)) if self.is_revoked(&identity) => refuse(revoked_key()),
                    Ok(Checked::Known(identity, cached)) => {
                        self.allow(Some((policy, provider)), headers, Some(identity), cached)
                    }
                    Ok(Checked::Ask(hash, introspection)) => Decision::Introspect(Pending {
                        policy: name.to_owned(),
                        provider: index,
                        hash,
                        introspection: introspection.clone(),
                    }),
                    Err(refusal) => refuse(refusal),
                },
            };
        }
        match policy.optional {
            true => self.allow(None, headers, None, false),
            false => Decision::Deny(policy.challenges.response(&Refusal::Missing, None)),
        }
    }

    /// Decides on a request whose introspection ended; `answer` is `None` where it failed or timed out.
    pub fn resume<'h>(
        &self,
        pending: &Pending,
        headers: &HeaderMap<'h>,
        answer: Option<&Answer>,
        now: Duration,
    ) -> Decision<'h> {
        let Some(policy) = self.policies.get(&pending.policy) else {
            return unknown_policy();
        };
        let Some((provider, Kind::ApiKey(ring))) =
            policy.providers.get(pending.provider).map(|p| (p, &p.kind))
        else {
            return unknown_policy();
        };
        let refuse = |refusal| self.refuse(policy, provider, headers, &refusal);
        let Some(answer) = answer else {
            return refuse(Refusal::Unavailable(
                "introspection_unavailable",
                "the API key cannot be checked now",
            ));
        };
        match ring.remember(&pending.hash, answer, now) {
            // It was active when introspection was asked.
            Some(identity) if self.is_revoked(&identity) => refuse(revoked_key()),
            Some(identity) => self.allow(Some((policy, provider)), headers, Some(identity), false),
            None => refuse(unknown_key()),
        }
    }

    /// The provider that decided, whose the token is, and whether it was remembered.
    fn check_token<'a>(
        &self,
        policy: &'a Policy,
        first: &Provider,
        token: &[u8],
        now: Duration,
        host: &dyn HostVerifier,
    ) -> Result<(&'a Provider, Rc<Identity>, bool), Refusal> {
        let remembered = self.tokens.borrow_mut().get(policy.number, token);
        let cached = remembered.is_some();
        let verified = match remembered {
            Some(verified) => verified,
            None => {
                let verified = Rc::new(token::verify(policy, first, token, now, host)?);
                self.tokens.borrow_mut().insert(policy.number, token, Rc::clone(&verified));
                verified
            }
        };
        let Some((provider, Kind::Jwt { config, .. })) =
            policy.providers.get(verified.provider).map(|p| (p, &p.kind))
        else {
            return Err(Refusal::Invalid("the token's issuer is not accepted".to_owned()));
        };
        let identity = verified.identity(config, now)?;
        if self.is_revoked(&identity) {
            return Err(Refusal::Invalid("the token was revoked".to_owned()));
        }
        Ok((provider, identity, cached))
    }

    fn is_revoked(&self, identity: &Identity) -> bool {
        self.revocations.borrow().refuse(&identity.revocable)
    }

    /// Refuses the credential of `provider`, unless it is that it can't be checked, and the policy lets such pass.
    fn refuse<'h>(
        &self,
        policy: &Policy,
        provider: &Provider,
        headers: &HeaderMap<'h>,
        refusal: &Refusal,
    ) -> Decision<'h> {
        let passes = policy.on_failure == OnFailure::Allow && matches!(refusal, Refusal::Unavailable(..));
        match self.allow(Some((policy, provider)), headers, None, false) {
            Decision::Allow(allowed) if passes => Decision::Allow(Allowed { failed_open: true, ..allowed }),
            _ => Decision::Deny(policy.challenges.response(refusal, Some(&provider.scheme))),
        }
    }

    /// Lets a request on. `decided` is the policy and the provider whose credential was good.
    fn allow<'h>(
        &self,
        decided: Option<(&Policy, &Provider)>,
        headers: &HeaderMap<'h>,
        identity: Option<Rc<Identity>>,
        cached: bool,
    ) -> Decision<'h> {
        let mut remove: Vec<&[u8]> = Vec::new();
        for (name, _) in headers {
            let is_set = identity.as_ref().is_some_and(|identity| identity.sets(name));
            let goes = !is_set
                && (self.states_identity(name)
                    || identity.as_ref().is_some_and(|identity| identity.removes(name))
                    || decided.is_some_and(|(policy, decider)| is_spent(policy, decider, name, headers)));
            if goes && !remove.contains(name) {
                remove.push(name);
            }
        }
        Decision::Allow(Allowed { remove, identity, cached, failed_open: false })
    }

    /// Whether a client may not send this header.
    fn states_identity(&self, name: &[u8]) -> bool {
        let is_one = |header: &String| headers::is_same_name(header.as_bytes(), name);
        !self.trust_identity_headers && self.identity_headers.iter().any(is_one)
    }
}

/// Whether header `name` holds a credential that the upstream must not see. The deciding provider has the
/// word on its own header; those of the other providers go as well, since they were for the gateway too.
fn is_spent(policy: &Policy, decider: &Provider, name: &[u8], headers: &HeaderMap<'_>) -> bool {
    if decider.header.as_bytes() == name {
        return !decider.forward;
    }
    let holds_credential =
        |p: &&Provider| p.header.as_bytes() == name && p.find(headers) != Credential::Absent;
    policy.providers.iter().filter(holds_credential).any(|provider| !provider.forward)
}

enum Checked<'a> {
    Known(Rc<Identity>, bool),
    Ask(KeyHash, &'a Introspection),
}

fn check_key<'a>(ring: &'a KeyRing, key: &[u8], now: Duration) -> Result<Checked<'a>, Refusal> {
    if key.len() > api_key::MAX_KEY_BYTES {
        return Err(Refusal::Invalid("the API key is too long".to_owned()));
    }
    let hash = api_key::hash(key);
    match (ring.look_up(&hash, now), ring.introspection()) {
        (Lookup::Known(identity, cached), _) => Ok(Checked::Known(identity, cached)),
        (Lookup::Ask, Some(introspection)) => Ok(Checked::Ask(hash, introspection)),
        (Lookup::Ask, None) | (Lookup::Unknown(_), _) => Err(unknown_key()),
    }
}

fn revoked_key() -> Refusal {
    Refusal::Invalid("the API key was revoked".to_owned())
}

fn unknown_key() -> Refusal {
    Refusal::Invalid("the API key is not known".to_owned())
}

/// A route and a filter that disagree on policies must not let anyone through.
fn unknown_policy() -> Decision<'static> {
    let detail = "the route's auth policy is not known here yet";
    Decision::Deny(LocalResponse::unavailable("unknown_policy", detail, Duration::from_secs(1)))
}
