//! Response headers that tell a caller its quota.
//!
//! `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-10, as structured fields
//! (RFC 9651), and the `X-RateLimit-*` that clients have read for longer. No decision is made here.

use std::time::Duration;

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

    /// Gives names, lower case, and values for a request that left `remaining` tokens in a bucket which is full again
    /// after `reset`.
    pub fn each(&self, remaining: u64, reset: Duration, mut give: impl FnMut(&'static str, &str)) {
        let (remaining, reset) = (remaining.to_string(), whole_seconds(reset).to_string());
        give("ratelimit-policy", &self.policy);
        give("ratelimit", &[&self.name, ";r=", &remaining, ";t=", &reset].concat());
        give("x-ratelimit-limit", &self.limit);
        give("x-ratelimit-remaining", &remaining);
        give("x-ratelimit-reset", &reset);
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
        let mut fields = Vec::new();
        let give = |name, value: &str| fields.push((name, value.to_owned()));
        let of = Fields::new("per-\"x\"é", 100, Duration::from_secs(60));
        of.each(7, Duration::from_millis(1500), give);
        assert_eq!(
            fields,
            [
                ("ratelimit-policy", r#""per-\"x\"?";q=100;w=60"#.to_owned()),
                ("ratelimit", r#""per-\"x\"?";r=7;t=2"#.to_owned()),
                ("x-ratelimit-limit", "100".to_owned()),
                ("x-ratelimit-remaining", "7".to_owned()),
                ("x-ratelimit-reset", "2".to_owned()),
            ]
        );
    }
}
