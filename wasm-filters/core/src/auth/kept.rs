//! Claims that policies ask for by name: taken from a credential's JSON once, when the credential is checked.
//!
//! What is remembered of a credential is asked on every request, so nothing is parsed here again. Which claims are
//! taken is the configuration's; what they are compared with, or counted by, is others'.

use std::rc::Rc;

use serde_json::Value;

use crate::jwt::Claims;

/// Names of the claims to keep, as the configuration writes them: dots step into objects. Scopes, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimNames {
    claims: Rc<[Rc<str>]>,
    scopes: Rc<[Rc<str>]>,
}

/// Those of a credential's claims and scopes that were to be kept, and are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptClaims {
    claims: Vec<(Rc<str>, KeptClaim)>,
    scopes: Vec<Rc<str>>,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptClaim {
    /// A string as it is, anything else as JSON.
    text: String,
    /// Texts of the members, where it is a list; none for those that are null.
    members: Option<Vec<String>>,
}

impl ClaimNames {
    /// These names, each once, and no scopes.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { claims: unique(names), scopes: Rc::default() }
    }

    /// The same with these scopes.
    #[must_use]
    pub fn and_scopes<'a>(self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        Self { scopes: unique(scopes), ..self }
    }

    /// What `claims` has of them.
    pub fn keep(&self, claims: &Claims) -> KeptClaims {
        let claim = |name: &Rc<str>| Some((Rc::clone(name), KeptClaim::new(claims.find(name)?)?));
        let scopes = self.scopes.iter().filter(|scope| claims.has_scope(scope));
        KeptClaims {
            claims: self.claims.iter().filter_map(claim).collect(),
            scopes: scopes.map(Rc::clone).collect(),
        }
    }
}

fn unique<'a>(names: impl IntoIterator<Item = &'a str>) -> Rc<[Rc<str>]> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(Rc::from).collect()
}

impl KeptClaims {
    /// The claim of this name, if it is one of those that are kept.
    pub fn get(&self, name: &str) -> Option<&KeptClaim> {
        self.claims.iter().find(|(kept, _)| **kept == *name).map(|(_, claim)| claim)
    }

    /// Whether the scope is there, and is one of those that are kept.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|kept| **kept == *scope)
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

    /// Whether it is one of `accepted`, or a list that holds one.
    pub fn is_one_of(&self, accepted: &[String]) -> bool {
        match &self.members {
            Some(members) => members.iter().any(|member| accepted.contains(member)),
            None => accepted.contains(&self.text),
        }
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
        assert_eq!(kept.claims.len(), 2);
    }

    #[test]
    fn a_kept_claim_is_one_of_the_values_as_the_claim_itself_is() {
        let claims =
            json!({ "plan": "gold", "groups": ["a", null, 7], "n": 7, "o": { "a": "b" }, "none": null });
        let kept = kept(&["plan", "groups", "n", "o", "none"], &claims);
        let claims = Claims::from(claims.as_object().unwrap().clone());
        for name in ["plan", "groups", "n", "o", "none", "absent"] {
            for value in ["gold", "Gold", "a", "7", "null", "", r#"{"a":"b"}"#, r#"["a",null,7]"#] {
                let accepted = [value.to_owned()];
                let found = kept.get(name).is_some_and(|claim| claim.is_one_of(&accepted));
                assert_eq!(found, claims.is_one_of(name, &accepted), "{name} {value}");
            }
        }
    }

    #[test]
    fn only_scopes_that_were_named_are_kept() {
        let claims = Claims::from(json!({ "scope": "read admin" }).as_object().unwrap().clone());
        let kept = ClaimNames::default().and_scopes(["write", "read", "read"]).keep(&claims);
        assert_eq!(
            ["read", "write", "admin", ""].map(|scope| kept.has_scope(scope)),
            [true, false, false, false]
        );
    }
}
