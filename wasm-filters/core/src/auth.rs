//! Who may pass, and as whom: the decision of the auth filter.
//!
//! ```text
//! route's policy + headers ─► first provider whose credential is present, or all of them
//!    ├─ JWT:     cache ─► form ─► issuer ─► time, audience ─► key ─► signature ─► scopes
//!    └─ API key: configured ─► remembered ─► introspection (the caller asks, then `resume`s)
//! ─► what the route requires ─► allow (headers to remove, identity to set) or a response
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
    AuthConfig, AuthProvider, CONSUMER_HEADER, CREDENTIAL_ID_HEADER, CREDENTIAL_TYPE_HEADER,
    RevocationService,
};

use crate::api_key::{self, Answer, KeyHash, KeyRing, Lookup};
use crate::cache::Cache;
use crate::headers::{self, HeaderMap};
use crate::problem::LocalResponse;
use crate::revocations::{Revocations, Standing};
use crate::signature::HostVerifier;
use crate::{ConfigError, config_error};

mod gate;
mod identity;
mod kept;
mod pending;
mod policy;
mod refusal;
mod requirement;
#[cfg(test)]
mod tests;
mod token;

use gate::Gate;
pub use gate::Guard;
pub use identity::{Identity, UnusableSubject};
pub use kept::{ClaimNames, KeptClaim, KeptClaims};
pub use pending::Pending;
use pending::SoFar;
use policy::{Credential, Kind, Policy, Provider};
use refusal::{Challenges, Refusal};
use requirement::Requirement;
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
    requirements: BTreeMap<String, Requirement>,
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
    Introspect(Box<Pending>),
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
        let mut requirements = BTreeMap::new();
        for (name, requirement) in &config.requirements {
            let path = format!("requirements.{name}");
            requirements.insert(name.clone(), Requirement::new(requirement, &path)?);
        }
        let required = || requirements.values();
        let claims = config.claims.iter().map(String::as_str);
        let keep = ClaimNames::new(claims.chain(required().flat_map(Requirement::claims)))
            .and_scopes(required().flat_map(Requirement::scopes));
        let (mut policies, mut scope) = (BTreeMap::new(), 0_u32);
        for (name, policy) in &config.policies {
            let compiled = Policy::new(policy, scope, &keep, seed, &format!("policies.{name}"))?;
            scope = scope.saturating_add(compiled.providers.len() as u32);
            policies.insert(name.clone(), compiled);
            for provider in policy.any_of.iter().chain(&policy.all_of) {
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
            requirements,
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

    /// Decides on a request with `headers` on a route with `guard`, at `now` (since the epoch).
    pub fn decide<'h>(
        &self,
        guard: Option<Guard<'_>>,
        headers: &HeaderMap<'h>,
        now: Duration,
        host: &dyn HostVerifier,
    ) -> Decision<'h> {
        let Some(guard) = guard else {
            return self.allow(None, headers, None, false);
        };
        let Some(gate) = self.gate(guard) else {
            return unknown_policy();
        };
        let policy = gate.policy;
        if policy.all {
            return self.decide_all(gate, headers, now, host);
        }
        for (index, provider) in policy.providers.iter().enumerate() {
            let credential = match provider.find(headers) {
                Credential::Absent => continue,
                Credential::Repeated => return self.refuse(gate, index, headers, &Refusal::Repeated),
                Credential::Present(credential) => credential,
            };
            return match self.check(policy, provider, credential, now, host) {
                Ok(Checked::Known(decider, identity, cached)) => {
                    self.pass(gate, decider.unwrap_or(index), headers, identity, cached)
                }
                Ok(Checked::Ask(hash)) => {
                    self.proceed(gate, headers, SoFar { asks: vec![(index, hash)], ..SoFar::default() })
                }
                Err(refusal) => self.refuse(gate, index, headers, &refusal),
            };
        }
        self.nobody(gate, headers, &policy.challenges)
    }

    /// Decides where every provider's credential must hold. All are there before any is checked, and those that can be
    /// checked here are before any is asked about.
    fn decide_all<'h>(
        &self,
        gate: Gate<'_>,
        headers: &HeaderMap<'h>,
        now: Duration,
        host: &dyn HostVerifier,
    ) -> Decision<'h> {
        let providers = &gate.policy.providers;
        let (mut found, mut missing) = (Vec::with_capacity(providers.len()), Vec::new());
        for (index, provider) in providers.iter().enumerate() {
            match provider.find(headers) {
                Credential::Absent => missing.push(provider.scheme.clone()),
                Credential::Repeated => return self.refuse(gate, index, headers, &Refusal::Repeated),
                Credential::Present(credential) => found.push((index, provider, credential)),
            }
        }
        if found.is_empty() {
            return self.nobody(gate, headers, &gate.policy.challenges);
        }
        if !missing.is_empty() {
            let challenges = gate.policy.challenges.of(missing);
            return Decision::Deny(challenges.response(&Refusal::Missing, None));
        }
        let mut so_far = SoFar::default();
        for (index, provider, credential) in found {
            match self.check(gate.policy, provider, credential, now, host) {
                Ok(Checked::Known(_, identity, cached)) => {
                    so_far.known.push((index, identity));
                    so_far.fresh |= !cached;
                }
                Ok(Checked::Ask(hash)) => so_far.asks.push((index, hash)),
                Err(refusal) if gate.lets_pass(&refusal) => so_far.failed = Some((index, refusal)),
                Err(refusal) => return self.refuse(gate, index, headers, &refusal),
            }
        }
        self.proceed(gate, headers, so_far)
    }

    /// Decides on a request whose introspection ended; `answer` is `None` where it failed or timed out. It may be that
    /// another key is to be asked about.
    pub fn resume<'h>(
        &self,
        pending: &Pending,
        headers: &HeaderMap<'h>,
        answer: Option<&Answer>,
        now: Duration,
    ) -> Decision<'h> {
        let guard = Guard { policy: &pending.policy, requirement: pending.requirement.as_deref() };
        let Some(gate) = self.gate(guard) else {
            return unknown_policy();
        };
        let index = pending.provider;
        let Some(kind @ Kind::ApiKey(ring)) = gate.policy.providers.get(index).map(|p| &p.kind) else {
            return unknown_policy();
        };
        let mut so_far = SoFar { fresh: true, ..pending.so_far.clone() };
        match answer.map(|answer| ring.remember(&pending.hash, answer, now)) {
            // It was active when introspection was asked.
            Some(Some(identity)) => match self.standing(&identity, kind) {
                Ok(()) => so_far.known.push((index, identity)),
                Err(refusal) if gate.lets_pass(&refusal) => so_far.failed = Some((index, refusal)),
                Err(refusal) => return self.refuse(gate, index, headers, &refusal),
            },
            Some(None) => return self.refuse(gate, index, headers, &unknown_key()),
            None => {
                let refusal =
                    Refusal::Unavailable("introspection_unavailable", "the API key cannot be checked now");
                if !gate.lets_pass(&refusal) {
                    return self.refuse(gate, index, headers, &refusal);
                }
                so_far.failed = Some((index, refusal));
            }
        }
        self.proceed(gate, headers, so_far)
    }

    /// Asks about the next key, or decides where there is none.
    fn proceed<'h>(&self, gate: Gate<'_>, headers: &HeaderMap<'h>, mut so_far: SoFar) -> Decision<'h> {
        if !so_far.asks.is_empty() {
            let (provider, hash) = so_far.asks.remove(0);
            let kind = gate.policy.providers.get(provider).map(|provider| &provider.kind);
            let Some(Kind::ApiKey(ring)) = kind else { return unknown_policy() };
            let Some(introspection) = ring.introspection().cloned() else { return unknown_policy() };
            let (policy, requirement) = (gate.guard.policy, gate.guard.requirement);
            return Decision::Introspect(Box::new(Pending {
                policy: policy.to_owned(),
                requirement: requirement.map(str::to_owned),
                provider,
                hash,
                so_far,
                introspection,
            }));
        }
        if let Some((provider, refusal)) = &so_far.failed {
            return self.refuse(gate, *provider, headers, refusal);
        }
        if so_far.fresh {
            // Some were good before others were asked about.
            for (provider, identity) in &so_far.known {
                let Some(Provider { kind, .. }) = gate.policy.providers.get(*provider) else {
                    return unknown_policy();
                };
                if let Err(refusal) = self.standing(identity, kind) {
                    return self.refuse(gate, *provider, headers, &refusal);
                }
            }
        }
        so_far.known.sort_by_key(|(provider, _)| *provider);
        let mut known = so_far.known.into_iter();
        let Some((first, identity)) = known.next() else { return unknown_policy() };
        let identity = match known.as_slice() {
            [] => identity,
            others => Rc::new(identity.and(others.iter().map(|(_, identity)| &**identity))),
        };
        self.pass(gate, first, headers, identity, !so_far.fresh)
    }

    /// `None` where one of the names is not known.
    fn gate<'a>(&'a self, guard: Guard<'a>) -> Option<Gate<'a>> {
        let requirement = match guard.requirement {
            None => None,
            Some(name) => Some(self.requirements.get(name)?),
        };
        Some(Gate { guard, policy: self.policies.get(guard.policy)?, requirement })
    }

    /// What is known of a credential that came to `provider`.
    fn check(
        &self,
        policy: &Policy,
        provider: &Provider,
        credential: &[u8],
        now: Duration,
        host: &dyn HostVerifier,
    ) -> Result<Checked, Refusal> {
        let checked = match &provider.kind {
            Kind::Jwt { .. } => self.check_token(policy, provider, credential, now, host)?,
            Kind::ApiKey(ring) => check_key(ring, credential, now)?,
        };
        if let Checked::Known(_, identity, _) = &checked {
            self.standing(identity, &provider.kind)?;
        }
        Ok(checked)
    }

    /// That a credential of this kind is not revoked.
    fn standing(&self, identity: &Identity, kind: &Kind) -> Result<(), Refusal> {
        match self.revocations.borrow().judge(&identity.revocable) {
            Standing::Good => Ok(()),
            Standing::Revoked => Err(Refusal::Invalid(match kind {
                Kind::Jwt { .. } => "the token was revoked".to_owned(),
                Kind::ApiKey(_) => "the API key was revoked".to_owned(),
            })),
            Standing::Unknown => {
                Err(Refusal::Unavailable("revocations_unavailable", "what was revoked is not known yet"))
            }
        }
    }

    fn check_token(
        &self,
        policy: &Policy,
        first: &Provider,
        token: &[u8],
        now: Duration,
        host: &dyn HostVerifier,
    ) -> Result<Checked, Refusal> {
        let remembered = self.tokens.borrow_mut().get(first.scope, token);
        let cached = remembered.is_some();
        let verified = match remembered {
            Some(verified) => verified,
            None => {
                let verified = Rc::new(token::verify(policy, first, token, now, host)?);
                self.tokens.borrow_mut().insert(first.scope, token, Rc::clone(&verified));
                verified
            }
        };
        let decider = policy.providers.get(verified.provider).map(|provider| &provider.kind);
        let Some(Kind::Jwt { config, .. }) = decider else {
            return Err(Refusal::Invalid("the token's issuer is not accepted".to_owned()));
        };
        Ok(Checked::Known(Some(verified.provider), verified.identity(config, now)?, cached))
    }

    /// Lets the caller on, if it is one that the route is for. `decider` is the provider whose credential says who calls.
    fn pass<'h>(
        &self,
        gate: Gate<'_>,
        decider: usize,
        headers: &HeaderMap<'h>,
        identity: Rc<Identity>,
        cached: bool,
    ) -> Decision<'h> {
        if let Some(Err(refusal)) = gate.requirement.map(|requirement| requirement.check(&identity)) {
            return self.refuse(gate, decider, headers, &refusal);
        }
        self.allow(gate.decided_by(decider), headers, Some(identity), cached)
    }

    /// Decides on a request without any credential.
    fn nobody<'h>(&self, gate: Gate<'_>, headers: &HeaderMap<'h>, challenges: &Challenges) -> Decision<'h> {
        // Nobody has no scopes and no claims.
        match gate.policy.optional && gate.requirement.is_none() {
            true => self.allow(None, headers, None, false),
            false => Decision::Deny(challenges.response(&Refusal::Missing, None)),
        }
    }

    /// Refuses the credential of `provider`, unless it is that it can't be checked, and the policy lets such pass.
    fn refuse<'h>(
        &self,
        gate: Gate<'_>,
        provider: usize,
        headers: &HeaderMap<'h>,
        refusal: &Refusal,
    ) -> Decision<'h> {
        let decided = gate.decided_by(provider);
        match self.allow(decided, headers, None, false) {
            Decision::Allow(allowed) if gate.lets_pass(refusal) => {
                Decision::Allow(Allowed { failed_open: true, ..allowed })
            }
            _ => {
                let scheme = decided.map(|(_, provider)| &provider.scheme);
                Decision::Deny(gate.policy.challenges.response(refusal, scheme))
            }
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

/// What is known of a credential that is not refused.
enum Checked {
    /// It is good: the provider that found it so, where that may be another than it came to; whose it is; whether that was
    /// known before.
    Known(Option<usize>, Rc<Identity>, bool),
    /// Introspection must be asked.
    Ask(KeyHash),
}

fn check_key(ring: &KeyRing, key: &[u8], now: Duration) -> Result<Checked, Refusal> {
    if key.len() > api_key::MAX_KEY_BYTES {
        return Err(Refusal::Invalid("the API key is too long".to_owned()));
    }
    let hash = api_key::hash(key);
    match ring.look_up(&hash, now) {
        Lookup::Known(identity, cached) => Ok(Checked::Known(None, identity, cached)),
        Lookup::Ask => Ok(Checked::Ask(hash)),
        Lookup::Unknown(_) => Err(unknown_key()),
    }
}

fn unknown_key() -> Refusal {
    Refusal::Invalid("the API key is not known".to_owned())
}

/// A route and a filter that disagree on policies must not let anyone through.
fn unknown_policy() -> Decision<'static> {
    let detail = "the route's auth policy is not known here yet";
    Decision::Deny(LocalResponse::unavailable("unknown_policy", detail, Duration::from_secs(1)))
}
