//! What routes require beyond their auth policy, and the name by which a route tells its filter.
//!
//! The name is a hash of the content. Equal requirements share one, and a changed one is another: while routes move from
//! the one to the other, the filter knows both, and it never takes the one for the other.

use tollgate_filter_config as config;
use xxhash_rust::xxh3::xxh3_128;

use super::named;
use crate::gateway::model::{PolicyRefs, RequiredClaim};

/// What a route with these policies requires, and its name; `None` where that is nothing, or nobody is asked who they are.
pub(super) fn requirement(policies: &PolicyRefs) -> Option<(String, config::Requirement)> {
    named(&policies.auth)?;
    let mut scopes: Vec<String> = policies.required_scopes.iter().flatten().cloned().collect();
    scopes.sort_unstable();
    scopes.dedup();
    let claims: Vec<_> = policies.required_claims.iter().flatten().map(required_claim).collect();
    if scopes.is_empty() && claims.is_empty() {
        return None;
    }
    let requirement = config::Requirement { scopes, claims };
    let json = serde_json::to_string(&requirement).unwrap_or_default();
    Some((format!("{:032x}", xxh3_128(json.as_bytes())), requirement))
}

/// A claim that must have one of some values.
pub(super) fn required_claim(required: &RequiredClaim) -> config::RequiredClaim {
    config::RequiredClaim { claim: required.claim.clone(), any_of: required.any_of.clone() }
}
