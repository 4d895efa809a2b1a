//! Which policies a route has, as its name in Envoy tells it.
//!
//! Of what Envoy tells a Wasm filter about a route, the name is the cheapest by far: metadata costs it two to three
//! times as much, more than all that the filter reads of the request.

/// A route, whom it asks, and its policies: `api/GET /v1/*;plugin=public/gateway,auth=consumers,rate_limit=per-consumer`.
/// What the route requires beyond its auth policy stands behind it (`auth=consumers/NAME`), so that a filter which knows no
/// requirements takes both for the name of a policy that it doesn't know, and lets nobody through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutePolicies<'a> {
    /// What the route is called, for keys and counters. Any text.
    pub route: &'a str,
    /// The plugin, as Envoy calls it: its configuration has the policies.
    pub plugin: &'a str,
    /// Name in [`crate::AuthConfig::policies`].
    pub auth: Option<&'a str>,
    /// Name in [`crate::AuthConfig::requirements`]; only with `auth`.
    pub requirement: Option<&'a str>,
    /// Name in [`crate::RateLimitConfig::policies`].
    pub rate_limit: Option<&'a str>,
}

impl<'a> RoutePolicies<'a> {
    /// Reads what [`Self::render`] wrote; `None` where it is none. Unknown keys are passed over, so an older filter
    /// survives a newer xds-server.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (route, told) = name.rsplit_once(';')?;
        let mut policies = Self { route, ..Self::default() };
        for (kind, name) in told.split(',').filter_map(|pair| pair.split_once('=')) {
            match kind {
                "plugin" => policies.plugin = name,
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
        Some(policies)
    }

    /// The plugin of a name that [`Self::render`] wrote.
    pub fn plugin_of(name: &[u8]) -> Option<&[u8]> {
        let told = name.rsplit(|byte| *byte == b';').next()?;
        told.strip_prefix(b"plugin=")?.split(|byte| *byte == b',').next()
    }

    /// The route's name in Envoy. Names of plugins and policies hold no `;`, `,` or `=`, and those of policies no `/`
    /// (xds-server checks them). A requirement without a policy names one that nobody has.
    pub fn render(&self) -> String {
        let auth = match (self.auth, self.requirement) {
            (auth, Some(requirement)) => Some(format!("{}/{requirement}", auth.unwrap_or_default())),
            (auth, None) => auth.map(str::to_owned),
        };
        let policies = [("auth", auth.as_deref()), ("rate_limit", self.rate_limit)];
        let policies = policies.into_iter().filter_map(|(kind, name)| Some(format!(",{kind}={}", name?)));
        format!("{};plugin={}{}", self.route, self.plugin, policies.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_what_render_wrote() {
        for policies in [
            RoutePolicies { plugin: "p/g", ..RoutePolicies::default() },
            RoutePolicies { plugin: "p", auth: Some("a"), ..RoutePolicies::default() },
            RoutePolicies {
                plugin: "p",
                auth: Some("a"),
                requirement: Some("0f"),
                ..RoutePolicies::default()
            },
            RoutePolicies {
                plugin: "p",
                auth: Some(""),
                requirement: Some("0f"),
                ..RoutePolicies::default()
            },
            RoutePolicies {
                plugin: "p",
                route: "api/GET /v1/*",
                auth: Some("a-b"),
                requirement: Some("0f"),
                rate_limit: Some("r_1"),
            },
            RoutePolicies {
                route: "~ /a{1,2}%2c ?q=x;plugin=y,auth=none;\r\n é ",
                plugin: "p/g",
                rate_limit: Some("r.1"),
                ..RoutePolicies::default()
            },
        ] {
            let name = policies.render();
            assert_eq!(RoutePolicies::parse(&name), Some(policies.clone()));
            assert_eq!(RoutePolicies::plugin_of(name.as_bytes()), Some(policies.plugin.as_bytes()));
        }
    }

    #[test]
    fn a_name_that_tells_nothing_is_no_route_without_policies() {
        for name in ["", "api", "api/plugin=p"] {
            assert_eq!(RoutePolicies::parse(name), None);
            assert_eq!(RoutePolicies::plugin_of(name.as_bytes()), None);
        }
        assert_eq!(RoutePolicies::plugin_of(b"api;auth=a,plugin=p"), None);
    }

    #[test]
    fn unknown_kinds_and_noise_are_passed_over() {
        let policies = RoutePolicies::parse("r;new=x,,auth=a,=,broken").unwrap();
        assert_eq!(policies, RoutePolicies { route: "r", auth: Some("a"), ..RoutePolicies::default() });
    }

    #[test]
    fn a_requirement_without_a_policy_is_not_lost() {
        let name = RoutePolicies { requirement: Some("0f"), ..RoutePolicies::default() }.render();
        assert_eq!(name, ";plugin=,auth=/0f");
        assert_eq!(RoutePolicies::parse(&name).unwrap().auth, Some(""));
    }
}
