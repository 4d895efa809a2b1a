//! Whether a token pleases its provider.
//!
//! The cheap checks come before the signature: a token that is out of time or for someone else is refused
//! for what it says of itself, and costs no signature. Scopes come after it, because a 403 says that the
//! token is otherwise good.

use std::rc::Rc;
use std::time::Duration;

use tollgate_filter_config::{JwtProvider, RevokedKind};

use super::identity::Identity;
use super::kept::ClaimNames;
use super::policy::{Kind, Policy, Provider};
use super::refusal::Refusal;
use crate::jwks::KeySet;
use crate::jwt::{Claims, Jwt};
use crate::revocations::Revocable;
use crate::signature::{self, HostVerifier};

/// A token whose signature holds: what is cached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Index of its provider in the policy.
    pub provider: usize,
    /// `exp`, in seconds since the epoch.
    expires_at: u64,
    /// `nbf`, or 0.
    not_before: u64,
    /// Whose it is, or what it lacks.
    identity: Result<Rc<Identity>, Lacks>,
}

/// What a good token lacks for the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacks {
    Scope,
    Claim,
}

/// Verifies `token`, which came in the header of provider `first`. An error comes with the provider that
/// found it, where one was found.
pub fn verify(
    policy: &Policy,
    first: &Provider,
    token: &[u8],
    now: Duration,
    host: &dyn HostVerifier,
) -> Result<Verified, Refusal> {
    let jwt = Jwt::parse(token).map_err(|error| Refusal::Invalid(error.to_string()))?;
    let issuer = jwt.claims.issuer().ok_or_else(|| invalid("the token names no issuer"))?;
    let index = policy
        .provider_of_issuer(first, issuer)
        .ok_or_else(|| invalid("the token's issuer is not accepted"))?;
    let Some(Kind::Jwt { config, keys }) = policy.providers.get(index).map(|provider| &provider.kind) else {
        return Err(invalid("the token's issuer is not accepted"));
    };
    let Some(keys) = keys else {
        return Err(Refusal::Unavailable("jwks_unavailable", "the issuer's keys are not known yet"));
    };
    let (expires_at, not_before) = prove(config, keys, &jwt, now, host)?;
    let identity = identify(config, &jwt.claims, &policy.keep)?;
    Ok(Verified { provider: index, expires_at, not_before, identity })
}

/// That the token counts at `now`, and its issuer signed it: then its `exp` and `nbf`.
fn prove(
    config: &JwtProvider,
    keys: &KeySet,
    jwt: &Jwt<'_>,
    now: Duration,
    host: &dyn HostVerifier,
) -> Result<(u64, u64), Refusal> {
    if !config.algorithms.contains(&jwt.algorithm) {
        return Err(invalid("the token's algorithm is not accepted"));
    }
    let expires_at = jwt.claims.expires_at().ok_or_else(|| invalid("the token has no expiry"))?;
    let not_before = match jwt.claims.not_before() {
        None => 0,
        Some(not_before) => not_before.ok_or_else(|| invalid("the token is malformed"))?,
    };
    check_time(expires_at, not_before, config.clock_skew_seconds, now)?;
    if !config.audiences.is_empty() && !jwt.claims.has_audience(&config.audiences) {
        return Err(invalid("the token is for another audience"));
    }
    let key = keys
        .select(jwt.key_id.as_deref(), jwt.algorithm)
        .map_err(|error| Refusal::Invalid(error.to_string()))?;
    match signature::verify(host, &key.material, jwt.algorithm, jwt.signing_input, &jwt.signature) {
        Ok(true) => Ok((expires_at, not_before)),
        Ok(false) => Err(invalid("the token's signature does not hold")),
        Err(_) => Err(Refusal::Unavailable("verifier_unavailable", "the token cannot be verified now")),
    }
}

/// Whose the token with these claims is, or what it lacks.
fn identify(
    config: &JwtProvider,
    claims: &Claims,
    keep: &ClaimNames,
) -> Result<Result<Rc<Identity>, Lacks>, Refusal> {
    if !claims.has_scopes(&config.required_scopes) {
        return Ok(Err(Lacks::Scope));
    }
    let mut required = config.required_claims.iter();
    if !required.all(|required| claims.is_one_of(&required.claim, &required.any_of)) {
        return Ok(Err(Lacks::Claim));
    }
    let identity = Identity::of_token(claims, &config.claims_to_headers, keep);
    let identity = identity.map_err(|_| invalid("the token's subject cannot be used"))?;
    Ok(Ok(Rc::new(identity.with_revocable(revocable(config, claims)))))
}

/// By its own id, and by that of its session.
fn revocable(config: &JwtProvider, claims: &Claims) -> Revocable {
    let Some(list) = &config.revocations else { return Revocable::default() };
    let ids = [(RevokedKind::Token, "jti"), (RevokedKind::Session, "sid")];
    Revocable::new(
        list,
        ids.into_iter().filter_map(|(kind, claim)| Some((kind, claims.get(claim)?.as_str()?))),
    )
}

impl Verified {
    /// Whose the token is, if it counts at `now`: that is checked for each request, cached or not.
    pub fn identity(&self, config: &JwtProvider, now: Duration) -> Result<Rc<Identity>, Refusal> {
        check_time(self.expires_at, self.not_before, config.clock_skew_seconds, now)?;
        match &self.identity {
            Ok(identity) => Ok(Rc::clone(identity)),
            Err(Lacks::Scope) => Err(Refusal::Scope(config.required_scopes.clone())),
            Err(Lacks::Claim) => Err(Refusal::Claim),
        }
    }
}

/// RFC 7519 sections 4.1.4 and 4.1.5: good from `nbf` on, and before `exp`.
fn check_time(expires_at: u64, not_before: u64, skew: u64, now: Duration) -> Result<(), Refusal> {
    if now.as_secs() >= expires_at.saturating_add(skew) {
        return Err(invalid("the token has expired"));
    }
    if now.as_secs().saturating_add(skew) < not_before {
        return Err(invalid("the token is not valid yet"));
    }
    Ok(())
}

fn invalid(why: &str) -> Refusal {
    Refusal::Invalid(why.to_owned())
}
