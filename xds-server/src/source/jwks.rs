//! JSON Web Key Sets (RFC 7517): where the YAML names them, and what a text must hold to be one. Not here: fetching and
//! reading them.

use serde_json::Value;

use crate::gateway::Gateway;
use crate::gateway::model::{AuthProvider, Jwks};
use crate::gateway::position::join;

/// Where every `jwks` of the gateway stands, and what it says.
pub fn all_jwks(gateway: &Gateway) -> impl Iterator<Item = (String, &Jwks)> {
    gateway.policies.auth.iter().flat_map(|(name, policy)| {
        let (field, providers) = policy.providers();
        providers.iter().enumerate().filter_map(move |(index, provider)| match provider {
            AuthProvider::Jwt(jwt) => Some((
                format!("{}/{field}/{index}/jwt/jwks", join("/policies/auth", name.as_str())),
                &jwt.jwks,
            )),
            AuthProvider::ApiKey(_) => None,
        })
    })
}

/// A JSON Web Key Set, or what is wrong with the text. Never shows the text: it may hold secrets.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let set: Value = serde_json::from_str(text)
        .map_err(|error| format!("not JSON at line {} column {}", error.line(), error.column()))?;
    match set.get("keys") {
        Some(Value::Array(_)) => Ok(set),
        _ => Err("not a JSON Web Key Set: there is no list `keys` (RFC 7517 section 5)".into()),
    }
}
