//! Which policies a route has, as its name in Envoy tells it.
//!
//! Of what Envoy tells a Wasm filter about a route, the name is the cheapest by far: metadata costs it two to three
//! times as much, more than all that the filter reads of the request.

/// A route, and its policies: `api/GET /v1/*;auth=consumers,rate_limit=per-consumer`, or `api/GET /healthz;none`.
/// What the route requires beyond its auth policy stands behind it (`auth=consumers/NAME`), so that a filter which knows no
/// requirements takes both for the name of a policy that it doesn't know, and lets nobody through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutePolicies<'a> {
    /// What the route is called, for keys and counters. Any text.
    pub route: &'a str,
    /// Name in [`crate::AuthConfig::policies`].
    pub auth: Option<&'a str>,
    /// Name in [`crate::AuthConfig::requirements`]; only with `auth`.
    pub requirement: Option<&'a str>,
    /// Name in [`crate::RateLimitConfig::policies`].
    pub rate_limit: Option<&'a str>,
}

/// What a route without policies tells.
const NONE: &str = "none";

impl<'a> RoutePolicies<'a> {
    /// Reads what [`Self::render`] wrote; `None` where it is none. Unknown keys are passed over, so an older filter
    /// survives a newer xds-server.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (route, told) = name.rsplit_once(';')?;
        let mut policies = Self { route, ..Self::default() };
        if told == NONE {
            return Some(policies);
        }
        for (kind, name) in told.split(',').filter_map(|pair| pair.split_once('=')) {
            match kind {
                "auth" => {
                    let (name, requirement) = match name.split_once('/') {
                        Some((name, requirement)) => (name, Some(requirement)),
                        None => (name, None),
                    };
                    (policies.auth, policies.requirement) = (Some(name), requirement);
                }
                "rate_limit" => policies.rate_limit = Some(name),
                _ => {}
            }
        }
        (policies.auth.is_some() || policies.rate_limit.is_some()).then_some(policies)
    }

    /// The route's name in Envoy. Names of policies hold no `;`, `,`, `=` or `/` (xds-server checks them). A requirement
    /// without a policy names one that nobody has.
    pub fn render(&self) -> String {
        let auth = match (self.auth, self.requirement) {
            (auth, Some(requirement)) => Some(format!("{}/{requirement}", auth.unwrap_or_default())),
            (auth, None) => auth.map(str::to_owned),
        };
        let policies = [("auth", auth.as_deref()), ("rate_limit", self.rate_limit)];
        let policies = policies.into_iter().filter_map(|(kind, name)| Some(format!("{kind}={}", name?)));
        let policies: Vec<String> = policies.collect();
        match policies.is_empty() {
            true => format!("{};{NONE}", self.route),
            false => format!("{};{}", self.route, policies.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_what_render_wrote() {
        for policies in [
            RoutePolicies { route: "api", ..RoutePolicies::default() },
            RoutePolicies { auth: Some("a"), ..RoutePolicies::default() },
            RoutePolicies { auth: Some("a"), requirement: Some("0f"), ..RoutePolicies::default() },
            RoutePolicies { auth: Some(""), requirement: Some("0f"), ..RoutePolicies::default() },
            RoutePolicies {
                route: "api/GET /v1/*",
                auth: Some("a-b"),
                requirement: Some("0f"),
                rate_limit: Some("r_1"),
            },
            RoutePolicies {
                route: "~ /a{1,2}%2c ?q=x;plugin=y,auth=none;\r\n é ",
                rate_limit: Some("r.1"),
                ..RoutePolicies::default()
            },
        ] {
            let name = policies.render();
            assert_eq!(RoutePolicies::parse(&name), Some(policies.clone()));
        }
    }

    #[test]
    fn a_name_that_tells_nothing_is_no_route_without_policies() {
        for name in ["", "api", "api/auth=a", "api/a;b", "api;"] {
            assert_eq!(RoutePolicies::parse(name), None);
        }
    }

    #[test]
    fn unknown_kinds_and_noise_are_passed_over() {
        let policies = RoutePolicies::parse("r;new=x,,auth=a,=,broken").unwrap();
        assert_eq!(policies, RoutePolicies { route: "r", auth: Some("a"), ..RoutePolicies::default() });
    }

    #[test]
    fn a_requirement_without_a_policy_is_not_lost() {
        let name = RoutePolicies { requirement: Some("0f"), ..RoutePolicies::default() }.render();
        assert_eq!(name, ";auth=/0f");
        assert_eq!(RoutePolicies::parse(&name).unwrap().auth, Some(""));
    }
}
