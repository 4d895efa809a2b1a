//! Response headers that tell a caller its quota.
//!
//! `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-10, as structured fields
//! (RFC 9651), and the `X-RateLimit-*` that clients have read for longer. No decision is made here.

use std::rc::Rc;
use std::time::Duration;

use crate::bucket::Outcome;
use crate::problem::whole_seconds;

/// What of a policy's headers is the same for every response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// The policy's name as a structured-field string.
    name: String,
    policy: String,
    limit: String,
}

impl Fields {
    /// Headers of a policy that refills `limit` requests every `period`. The window is told in whole
    /// seconds, rounded up, as the draft has no smaller unit.
    pub fn new(name: &str, limit: u64, period: Duration) -> Self {
        let name = string(name);
        let policy = format!("{name};q={limit};w={}", whole_seconds(period));
        Self { name, policy, limit: limit.to_string() }
    }
}

/// What is left to a caller under each limit, for the headers of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quota(Vec<Left>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    fields: Rc<Fields>,
    remaining: u64,
    reset: Duration,
}

impl Quota {
    /// Adds what a request left under a limit.
    pub(super) fn push(&mut self, fields: &Rc<Fields>, outcome: &Outcome) {
        self.0.push(Left { fields: Rc::clone(fields), remaining: outcome.remaining, reset: outcome.reset });
    }

    /// Gives each header: its name, lower case, and its value. `RateLimit` and `RateLimit-Policy` tell of every limit, the
    /// older ones of that which is nearest to its end.
    pub fn headers(&self, mut give: impl FnMut(&'static str, &str)) {
        let Some(nearest) = self.0.iter().min_by_key(|left| left.remaining) else { return };
        let (mut policies, mut limits) = (String::new(), String::new());
        for Left { fields, remaining, reset } in &self.0 {
            if !limits.is_empty() {
                policies.push_str(", ");
                limits.push_str(", ");
            }
            policies.push_str(&fields.policy);
            limits.push_str(&fields.name);
            limits.push_str(";r=");
            limits.push_str(&remaining.to_string());
            limits.push_str(";t=");
            limits.push_str(&whole_seconds(*reset).to_string());
        }
        give("ratelimit-policy", &policies);
        give("ratelimit", &limits);
        give("x-ratelimit-limit", &nearest.fields.limit);
        give("x-ratelimit-remaining", &nearest.remaining.to_string());
        give("x-ratelimit-reset", &whole_seconds(nearest.reset).to_string());
    }
}

/// A string (RFC 9651 section 3.3.3): printable ASCII, quote and backslash escaped. Other characters become
/// `?`; names have none, xds-server checks them.
fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_structured() {
        let outcome = |remaining| Outcome {
            allowed: true,
            tat: 0,
            remaining,
            reset: Duration::from_millis(1500),
            retry_after: Duration::ZERO,
        };
        let mut quota = Quota::default();
        let fields = Fields::new("per-\"x\"é", 100, Duration::from_secs(60));
        quota.push(&Rc::new(fields), &outcome(7));
        quota.push(&Rc::new(Fields::new("day", 5000, Duration::from_secs(86_400))), &outcome(4000));
        let mut fields = Vec::new();
        quota.headers(|name, value| fields.push((name, value.to_owned())));
        assert_eq!(
            fields,
            [
                ("ratelimit-policy", r#""per-\"x\"?";q=100;w=60, "day";q=5000;w=86400"#.to_owned()),
                ("ratelimit", r#""per-\"x\"?";r=7;t=2, "day";r=4000;t=2"#.to_owned()),
                ("x-ratelimit-limit", "100".to_owned()),
                ("x-ratelimit-remaining", "7".to_owned()),
                ("x-ratelimit-reset", "2".to_owned()),
            ]
        );
    }
}
