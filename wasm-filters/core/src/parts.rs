//! What one plugin decides: who may call, how often, or both; and which policies a route has.
//!
//! The decisions themselves are `auth`'s and `rate_limit`'s.

use std::cell::RefCell;
use std::rc::Rc;

use tollgate_filter_config::{GatewayConfig, RoutePolicies};

use crate::auth::{Authenticator, Guard};
use crate::cache::Cache;
use crate::rate_limit::Limiter;
use crate::tally::Tally;
use crate::{ConfigError, config_error};

/// Routes remembered in each of two generations, by their names.
const ROUTES_PER_GENERATION: usize = 1024;

/// A plugin's configuration, compiled.
#[derive(Debug)]
pub struct Parts {
    /// Who may call; `None` where another filter knows.
    pub auth: Option<Authenticator>,
    /// How often; `None` where another filter knows.
    pub limiter: Option<Limiter>,
    routes: RefCell<Cache<Rc<Route>>>,
}

/// A route: its policies by name, and what was decided on it.
#[derive(Debug, Default)]
pub struct Route {
    /// Who may call it.
    pub auth: Option<String>,
    /// What is required of them beyond that.
    pub requirement: Option<String>,
    /// How often.
    pub rate_limit: Option<String>,
    /// What it is called.
    pub name: String,
    /// What was decided since it was last counted.
    pub tally: Tally,
}

impl Route {
    /// Who may take it; `None` where everybody may.
    pub fn guard(&self) -> Option<Guard<'_>> {
        Some(Guard { policy: self.auth.as_deref()?, requirement: self.requirement.as_deref() })
    }
}

impl Parts {
    /// Reads the configuration of a plugin that decides on who may call. `seed` is for hash tables, see [`Cache::new`].
    pub fn auth(json: &[u8], seed: u64) -> Result<Self, ConfigError> {
        Ok(Self::new(Some(Authenticator::from_json(json, seed)?), None, seed))
    }

    /// Reads the configuration of a plugin that decides on how often.
    pub fn rate_limit(json: &[u8], seed: u64) -> Result<Self, ConfigError> {
        Ok(Self::new(None, Some(Limiter::from_json(json)?), seed))
    }

    /// Reads the configuration of a plugin that decides on both.
    pub fn gateway(json: &[u8], seed: u64) -> Result<Self, ConfigError> {
        let config: GatewayConfig = config_error::parse(json)?;
        let within = |part: &str| {
            let part = part.to_owned();
            move |error: ConfigError| ConfigError::new(format!("{part}.{}", error.path), error.reason)
        };
        let auth = Authenticator::new(&config.auth, seed).map_err(within("auth"))?;
        let limiter = Limiter::new(&config.rate_limit).map_err(within("rate_limit"))?;
        Ok(Self::new(Some(auth), Some(limiter), seed))
    }

    fn new(auth: Option<Authenticator>, limiter: Option<Limiter>, seed: u64) -> Self {
        Self { auth, limiter, routes: RefCell::new(Cache::new(ROUTES_PER_GENERATION, seed)) }
    }

    /// The policies of the route with this name in Envoy (see [`RoutePolicies`]); read once and remembered. `None` where
    /// it tells none.
    pub fn route(&self, name: &[u8]) -> Option<Rc<Route>> {
        if let Some(route) = self.routes.borrow_mut().get(0, name) {
            return Some(route);
        }
        let policies = RoutePolicies::parse(std::str::from_utf8(name).ok()?)?;
        let route = Rc::new(Route {
            auth: policies.auth.map(str::to_owned),
            requirement: policies.requirement.map(str::to_owned),
            rate_limit: policies.rate_limit.map(str::to_owned),
            name: policies.route.to_owned(),
            tally: Tally::default(),
        });
        self.routes.borrow_mut().insert(0, name, Rc::clone(&route));
        Some(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: &str = r#"{"auth":{"trust_identity_headers":false,"claim_headers":[],"policies":{}},"rate_limit":{"policies":{}}}"#;

    #[test]
    fn a_mistake_is_told_with_the_part_it_is_in() {
        let json =
            NOTHING.replace(r#""policies":{}}}"#, r#""policies":{"p":{"limits":[],"headers":"always"}}}}"#);
        let error = Parts::gateway(json.as_bytes(), 1).unwrap_err();
        assert_eq!(error.path, "rate_limit.policies.p.limits");
        assert!(Parts::gateway(b"{}", 1).is_err());
    }

    #[test]
    fn routes_are_told_apart_by_their_names() {
        let parts = Parts::gateway(NOTHING.as_bytes(), 1).unwrap();
        let route = |name: &str| parts.route(name.as_bytes()).unwrap();
        for _ in 0..2 {
            let none = route("api;none");
            assert_eq!((&none.auth, &none.rate_limit, &*none.name), (&None, &None, "api"));
            assert_eq!(route("api;auth=a,rate_limit=b").auth.as_deref(), Some("a"));
            assert_eq!(route("api;auth=b,rate_limit=b").auth.as_deref(), Some("b"));
            assert_eq!(route("api/a,b;c;auth=b").name, "api/a,b;c");
            assert_eq!(route("api;auth=b").guard(), Some("b".into()));
            let guard = Guard { policy: "b", requirement: Some("r") };
            assert_eq!(route("api;auth=b/r").guard(), Some(guard));
            assert_eq!(route("api;rate_limit=b").guard(), None);
            assert!(parts.route(b"api\xff;none").is_none() && parts.route(b"api").is_none());
        }
    }
}
