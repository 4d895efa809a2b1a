//! A JWT claims set (RFC 7519 section 4), read leniently in form and strictly in meaning.
//!
//! A registered claim of the wrong type reads as absent, which refuses wherever the claim is required. No
//! policy is known here.

use serde_json::{Map, Value};

/// The claims of one token. Of a name that comes twice, the last counts (RFC 7519 section 4).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims(pub(super) Map<String, Value>);

impl From<Map<String, Value>> for Claims {
    fn from(claims: Map<String, Value>) -> Self {
        Self(claims)
    }
}

impl Claims {
    /// `iss`.
    pub fn issuer(&self) -> Option<&str> {
        self.0.get("iss")?.as_str()
    }

    /// `exp`, in seconds since the epoch. Fractions are cut off, so such a token ends early, never late.
    pub fn expires_at(&self) -> Option<u64> {
        seconds(self.0.get("exp")?)
    }

    /// `nbf`, in seconds since the epoch; the inner `None` where it is there but is no date.
    pub fn not_before(&self) -> Option<Option<u64>> {
        self.0.get("nbf").map(seconds)
    }

    /// Whether `aud`, a string or an array of strings, names one of `accepted`.
    pub fn has_audience(&self, accepted: &[String]) -> bool {
        let accepts = |value: &Value| value.as_str().is_some_and(|aud| accepted.iter().any(|a| a == aud));
        match self.0.get("aud") {
            Some(Value::Array(audiences)) => audiences.iter().any(accepts),
            Some(value) => accepts(value),
            None => false,
        }
    }

    /// Whether every one of `required` is there (see [`Self::has_scope`]).
    pub fn has_scopes(&self, required: &[String]) -> bool {
        required.iter().all(|scope| self.has_scope(scope))
    }

    /// Whether a scope is in `scope` (RFC 8693 section 4.2) or `scp`; both are read as a space-separated string or an
    /// array, since issuers do either.
    pub fn has_scope(&self, scope: &str) -> bool {
        ["scope", "scp"].iter().any(|name| match self.0.get(*name) {
            Some(Value::String(granted)) => granted.split(' ').any(|s| s == scope),
            Some(Value::Array(granted)) => granted.iter().any(|s| s.as_str() == Some(scope)),
            _ => false,
        })
    }

    /// The claim as text: strings as they are, other values as JSON, `None` where it is absent or null. A
    /// claim of that very name comes first (`https://example.com/role`); else dots step into objects.
    pub fn text(&self, path: &str) -> Option<String> {
        match self.find(path)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Whether the claim (see [`Self::text`]) is one of `accepted`, or a list that holds one.
    pub fn is_one_of(&self, path: &str, accepted: &[String]) -> bool {
        let accepts = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => accepted.contains(text),
            other => accepted.contains(&other.to_string()),
        };
        match self.find(path) {
            Some(Value::Array(values)) => values.iter().any(accepts),
            Some(value) => accepts(value),
            None => false,
        }
    }

    /// The claim itself.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The claim at `path` (see [`Self::text`]).
    pub fn find(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(path) {
            return Some(value);
        }
        let (first, rest) = path.split_once('.')?;
        rest.split('.').try_fold(self.0.get(first)?, |value, name| value.get(name))
    }
}

/// NumericDate (RFC 7519 section 2): a JSON number, perhaps with a fraction. Before the epoch is the epoch.
fn seconds(value: &Value) -> Option<u64> {
    if let Some(whole) = value.as_u64() {
        return Some(whole);
    }
    // The cast saturates: negative becomes 0, huge becomes the maximum.
    value.as_f64().filter(|number| number.is_finite()).map(|number| number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        Claims(serde_json::from_str(json).unwrap())
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn dates_are_numbers_only() {
        for (json, seconds) in [
            (r#"{"exp":17}"#, Some(17)),
            (r#"{"exp":17.9}"#, Some(17)),
            (r#"{"exp":-5}"#, Some(0)),
            (r#"{"exp":1e300}"#, Some(u64::MAX)),
            (r#"{"exp":"17"}"#, None),
            (r#"{"exp":null}"#, None),
            ("{}", None),
        ] {
            assert_eq!(claims(json).expires_at(), seconds, "{json}");
        }
        assert_eq!(claims(r#"{"nbf":"soon"}"#).not_before(), Some(None));
        assert_eq!(claims("{}").not_before(), None);
    }

    #[test]
    fn audience_is_a_string_or_an_array() {
        let accepted = strings(&["api", "web"]);
        for (json, is) in [
            (r#"{"aud":"api"}"#, true),
            (r#"{"aud":["other","web"]}"#, true),
            (r#"{"aud":"API"}"#, false),
            (r#"{"aud":["other",7]}"#, false),
            (r#"{"aud":[]}"#, false),
            (r#"{"aud":{"api":1}}"#, false),
            ("{}", false),
        ] {
            assert_eq!(claims(json).has_audience(&accepted), is, "{json}");
        }
    }

    #[test]
    fn every_required_scope_must_be_there() {
        let required = strings(&["read", "write"]);
        for (json, is) in [
            (r#"{"scope":"write read admin"}"#, true),
            (r#"{"scp":["read","write"]}"#, true),
            (r#"{"scope":"read","scp":"write"}"#, true),
            (r#"{"scope":"read"}"#, false),
            (r#"{"scope":"readwrite"}"#, false),
            ("{}", false),
        ] {
            assert_eq!(claims(json).has_scopes(&required), is, "{json}");
        }
        assert!(claims("{}").has_scopes(&[]));
    }

    #[test]
    fn a_claim_is_one_of_the_accepted_or_holds_one() {
        let claims = claims(r#"{"plan":{"name":"gold"},"groups":["a","b"],"n":7,"x":null,"t":true}"#);
        for (path, accepted, is) in [
            ("plan.name", &["silver", "gold"][..], true),
            ("plan.name", &["Gold"], false),
            ("groups", &["b"], true),
            ("groups", &["c"], false),
            ("n", &["7"], true),
            ("t", &["true"], true),
            ("x", &["null"], false),
            ("none", &[""], false),
            ("plan.name", &[], false),
        ] {
            assert_eq!(claims.is_one_of(path, &strings(accepted)), is, "{path} {accepted:?}");
        }
    }

    #[test]
    fn text_steps_into_objects() {
        let claims =
            claims(r#"{"a":{"b":{"c":1}},"x.y":"whole","x":{"y":"stepped"},"n":null,"l":["é",true]}"#);
        for (path, text) in [
            ("a.b.c", Some("1")),
            ("a.b", Some(r#"{"c":1}"#)),
            ("x.y", Some("whole")),
            ("l", Some(r#"["é",true]"#)),
            ("n", None),
            ("a.z", None),
            ("a.b.c.d", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(claims.text(path).as_deref(), text, "{path}");
        }
    }
}
