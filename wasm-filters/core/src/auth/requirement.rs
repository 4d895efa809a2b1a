//! What a route requires of a caller beyond its policy: scopes, and values of claims.
//!
//! Compared with what was kept of the credential when it was checked, so that a token which is remembered stays so on
//! whatever route it comes, and nothing is parsed. Which route requires what is xds-server's.

use tollgate_filter_config as config;
use tollgate_filter_config::RequiredClaim;

use super::identity::Identity;
use super::refusal::Refusal;
use crate::ConfigError;

/// A requirement: all of it must hold.
#[derive(Debug, Clone)]
pub struct Requirement {
    scopes: Vec<String>,
    claims: Vec<RequiredClaim>,
}

impl Requirement {
    /// Checks the configuration found at `path`.
    pub fn new(config: &config::Requirement, path: &str) -> Result<Self, ConfigError> {
        for (index, scope) in config.scopes.iter().enumerate() {
            // RFC 6749 section 3.3: scopes are separated by spaces.
            if scope.is_empty() || scope.contains(' ') {
                let reason = "is empty or holds a space, so no credential could have it";
                return Err(ConfigError::new(format!("{path}.scopes[{index}]"), reason));
            }
        }
        check_claims(&config.claims, &format!("{path}.claims"))?;
        Ok(Self { scopes: config.scopes.clone(), claims: config.claims.clone() })
    }

    /// The scopes that it asks for.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str)
    }

    /// Names of the claims that it asks for.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.claims.iter().map(|required| required.claim.as_str())
    }

    /// Whether the caller has it all; else what to tell.
    pub fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        if !self.scopes().all(|scope| identity.has_scope(scope)) {
            return Err(Refusal::Scope(self.scopes.clone()));
        }
        match self.claims.iter().all(|required| identity.is_one_of(&required.claim, &required.any_of)) {
            true => Ok(()),
            false => Err(Refusal::Claim),
        }
    }
}

/// Checks claims that are required at `path`.
pub fn check_claims(claims: &[RequiredClaim], path: &str) -> Result<(), ConfigError> {
    for (index, required) in claims.iter().enumerate() {
        if required.claim.is_empty() {
            return Err(ConfigError::new(format!("{path}[{index}].claim"), "is empty"));
        }
        if required.any_of.is_empty() {
            let reason = "is empty, so no credential could be accepted";
            return Err(ConfigError::new(format!("{path}[{index}].any_of"), reason));
        }
    }
    Ok(())
}
