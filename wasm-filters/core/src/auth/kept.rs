//! Claims that policies ask for by name: taken from a credential's JSON once, when the credential is checked.
//!
//! What is remembered of a credential is asked on every request, so nothing is parsed here again. Which claims are
//! taken is the configuration's; what they are compared with, or counted by, is others'.

use std::rc::Rc;

use serde_json::Value;

use crate::jwt::Claims;

/// Names of the claims to keep, as the configuration writes them: dots step into objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimNames(Rc<[Rc<str>]>);

/// Those of a credential's claims that were to be kept, and are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptClaims(Vec<(Rc<str>, KeptClaim)>);

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptClaim {
    /// A string as it is, anything else as JSON.
    text: String,
    /// Texts of the members, where it is a list; none for those that are null.
    members: Option<Vec<String>>,
}

impl ClaimNames {
    /// These names, each once.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into_iter().map(Rc::from).collect())
    }

    /// What `claims` has of them.
    pub fn keep(&self, claims: &Claims) -> KeptClaims {
        let claim = |name: &Rc<str>| Some((Rc::clone(name), KeptClaim::new(claims.find(name)?)?));
        KeptClaims(self.0.iter().filter_map(claim).collect())
    }
}

impl KeptClaims {
    /// The claim of this name, if it is one of those that are kept.
    pub fn get(&self, name: &str) -> Option<&KeptClaim> {
        self.0.iter().find(|(kept, _)| **kept == *name).map(|(_, claim)| claim)
    }
}

impl KeptClaim {
    fn new(value: &Value) -> Option<Self> {
        let members = |values: &Vec<Value>| values.iter().filter_map(text).collect();
        Some(Self { text: text(value)?, members: value.as_array().map(members) })
    }

    /// A string as it is, anything else as JSON.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// `None` for null, which is the same as an absent claim.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(names: &[&str], claims: &Value) -> KeptClaims {
        let claims = Claims::from(claims.as_object().unwrap().clone());
        ClaimNames::new(names.iter().copied()).keep(&claims)
    }

    #[test]
    fn only_claims_that_were_named_are_kept() {
        let claims = json!({ "plan": "gold", "org": { "id": 7 }, "none": null, "secret": "s" });
        let kept = kept(&["plan", "org.id", "plan", "none", "absent"], &claims);
        let text = |name| kept.get(name).map(KeptClaim::text);
        assert_eq!(text("plan"), Some("gold"));
        assert_eq!(text("org.id"), Some("7"));
        for name in ["none", "absent", "secret", "org", ""] {
            assert_eq!(text(name), None, "{name}");
        }
        assert_eq!(kept.0.len(), 2);
    }
}
