//! Which policies a route has, as its Envoy metadata says it.
//!
//! One string leaf, `filter_metadata["tollgate"]["policies"]`, holds all of them, and the route's name, because a Wasm
//! filter pays about a microsecond for each property it reads, and because a map of one entry encodes
//! deterministically.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Namespace in the route's `filter_metadata`.
pub const METADATA_NAMESPACE: &str = "tollgate";
/// Key in that namespace.
pub const METADATA_POLICIES: &str = "policies";

/// Policy names of one route: `auth=consumers,rate_limit=per-consumer,route=api/GET!20/v1/*`. Absent means none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutePolicies<'a> {
    /// Name in [`crate::AuthConfig::policies`].
    pub auth: Option<&'a str>,
    /// Name in [`crate::RateLimitConfig::policies`].
    pub rate_limit: Option<&'a str>,
    /// The route's name, as Envoy has it: for keys and counters. Any text.
    pub route: Option<Cow<'a, str>>,
}

impl<'a> RoutePolicies<'a> {
    /// Reads what [`Self::render`] wrote. Unknown keys are passed over, so an older filter survives a newer
    /// xds-server.
    pub fn parse(text: &'a str) -> Self {
        let mut policies = Self::default();
        for (kind, name) in text.split(',').filter_map(|pair| pair.split_once('=')) {
            match kind {
                "auth" => policies.auth = Some(name),
                "rate_limit" => policies.rate_limit = Some(name),
                "route" => policies.route = Some(unescaped(name)),
                _ => {}
            }
        }
        policies
    }

    /// The metadata value; empty where the route has no policy, whatever its name: there is nothing to count. Names of
    /// policies hold neither `,` nor `=` (xds-server checks them); a route's name has such characters as `!2c`.
    pub fn render(&self) -> String {
        let parts = [("auth", self.auth), ("rate_limit", self.rate_limit)];
        let mut parts: Vec<String> =
            parts.iter().filter_map(|(kind, name)| Some(format!("{kind}={}", (*name)?))).collect();
        if let (Some(route), false) = (&self.route, parts.is_empty()) {
            parts.push(format!("route={}", escaped(route)));
        }
        parts.join(",")
    }
}

/// Characters that separate, and all that is not printable ASCII, as `!` and two digits a byte. No `%`: some of Envoy's
/// fields give it a meaning.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'!' | b',' | b'=' | b'%' | ..=b' ' | 0x7f.. => {
                // Writing to a string can't fail.
                let _ = write!(out, "!{byte:02x}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('!') {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split('!');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        match (code, part.get(2..)) {
            (Some(byte), Some(rest)) => {
                out.push(byte);
                out.extend_from_slice(rest.as_bytes());
            }
            // Not ours.
            _ => {
                out.push(b'!');
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_what_render_wrote() {
        let route = |name: &'static str| Some(Cow::Borrowed(name));
        for policies in [
            RoutePolicies::default(),
            RoutePolicies { auth: Some("a"), ..RoutePolicies::default() },
            RoutePolicies { rate_limit: Some("r.1"), ..RoutePolicies::default() },
            RoutePolicies { auth: Some("a-b"), rate_limit: Some("r_1"), route: route("api/GET /v1/*") },
            RoutePolicies {
                auth: Some("a"),
                rate_limit: None,
                route: route("~ /a{1,2}%2c!2c ?q=x,auth=none\r\n é "),
            },
        ] {
            assert_eq!(RoutePolicies::parse(&policies.render()), policies);
        }
    }

    #[test]
    fn a_route_without_policies_says_nothing() {
        let policies = RoutePolicies { route: Some("api".into()), ..RoutePolicies::default() };
        assert_eq!(policies.render(), "");
    }

    #[test]
    fn unknown_kinds_and_noise_are_passed_over() {
        let policies = RoutePolicies::parse("new=x,,auth=a,=,broken,route=!zz!");
        let route = Some(Cow::Borrowed("!zz!"));
        assert_eq!(policies, RoutePolicies { auth: Some("a"), rate_limit: None, route });
    }
}
