//! Which policies a route has, as its Envoy metadata says it.
//!
//! One string leaf, `filter_metadata["tollgate"]["policies"]`, holds all of them, because a Wasm filter pays
//! about a microsecond for each property it reads, and because a map of one entry encodes deterministically.

/// Namespace in the route's `filter_metadata`.
pub const METADATA_NAMESPACE: &str = "tollgate";
/// Key in that namespace.
pub const METADATA_POLICIES: &str = "policies";

/// Policy names of one route: `auth=consumers,rate_limit=per-consumer`. Absent means none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoutePolicies<'a> {
    /// Name in [`crate::AuthConfig::policies`].
    pub auth: Option<&'a str>,
    /// Name in [`crate::RateLimitConfig::policies`].
    pub rate_limit: Option<&'a str>,
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
                _ => {}
            }
        }
        policies
    }

    /// The metadata value; empty where the route has no policy. Names hold neither `,` nor `=` (xds-server
    /// checks them).
    pub fn render(&self) -> String {
        let parts = [("auth", self.auth), ("rate_limit", self.rate_limit)];
        let parts: Vec<String> =
            parts.iter().filter_map(|(kind, name)| Some(format!("{kind}={}", (*name)?))).collect();
        parts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_what_render_wrote() {
        for policies in [
            RoutePolicies::default(),
            RoutePolicies { auth: Some("a"), rate_limit: None },
            RoutePolicies { auth: None, rate_limit: Some("r.1") },
            RoutePolicies { auth: Some("a-b"), rate_limit: Some("r_1") },
        ] {
            assert_eq!(RoutePolicies::parse(&policies.render()), policies);
        }
    }

    #[test]
    fn unknown_kinds_and_noise_are_passed_over() {
        let policies = RoutePolicies::parse("new=x,,auth=a,=,broken");
        assert_eq!(policies, RoutePolicies { auth: Some("a"), rate_limit: None });
    }
}
