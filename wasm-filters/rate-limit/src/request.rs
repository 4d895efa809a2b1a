//! One request, from its headers to the headers of its response.
//!
//! The order of the host calls, and nothing else.

use std::cell::OnceCell;
use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};
use tollgate_filter_config::{CONSUMER_HEADER, METADATA_NAMESPACE, METADATA_POLICIES, RoutePolicies};
use tollgate_filter_core::problem::LocalResponse;
use tollgate_filter_core::rate_limit::{Decision, KeySource};
use tollgate_filter_core::slots::Evicted;

use crate::plugin::{self, Plugin};
use crate::shared::EnvoySlots;

/// A request.
pub struct Request {
    /// `None` where no configuration was ever accepted.
    plugin: Option<Rc<Plugin>>,
    /// For the response.
    fields: Vec<(&'static str, String)>,
    /// Answered here; nothing more may pass.
    answered: bool,
}

impl Request {
    /// A request under `plugin`.
    pub fn new(plugin: Option<Rc<Plugin>>) -> Self {
        Self { plugin, fields: Vec::new(), answered: false }
    }

    fn start(&mut self, plugin: &Plugin) -> Action {
        let path = vec!["xds", "route_metadata", "filter_metadata", METADATA_NAMESPACE, METADATA_POLICIES];
        let Ok(Ok(policies)) =
            hostcalls::get_property(path).map(Option::unwrap_or_default).map(String::from_utf8)
        else {
            return self.answer(&unreadable());
        };
        let Some(policy) = RoutePolicies::parse(&policies).rate_limit else {
            return Action::Continue;
        };
        let source = EnvoyRequest::default();
        match plugin.limiter.decide(policy, &source, &EnvoySlots, plugin.seed, plugin::now()) {
            Decision::Allow(fields, evicted) => {
                plugin.counters.allowed.add();
                if evicted == Evicted::Bucket {
                    plugin.counters.evicted.add();
                }
                self.fields = fields;
                Action::Continue
            }
            Decision::Limit(response) => {
                plugin.counters.limited.add();
                self.answer(&response)
            }
            Decision::Unavailable(response) => {
                plugin.counters.unavailable.add();
                self.answer(&response)
            }
        }
    }

    fn answer(&mut self, response: &LocalResponse) -> Action {
        self.answered = true;
        let headers = response.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let _ = hostcalls::send_http_response(u32::from(response.status), headers, Some(&response.body));
        Action::Pause
    }

    /// Body and trailers of a request that was answered go nowhere.
    fn follow(&self) -> Action {
        if self.answered { Action::Pause } else { Action::Continue }
    }
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        match self.plugin.clone() {
            Some(plugin) => self.start(&plugin),
            None => self.answer(&unreadable()),
        }
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> Action {
        self.follow()
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.follow()
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        for (name, value) in std::mem::take(&mut self.fields) {
            let _ =
                hostcalls::set_map_value_bytes(MapType::HttpResponseHeaders, name, Some(value.as_bytes()));
        }
        Action::Continue
    }
}

/// Reads from Envoy what a key needs, when it needs it.
#[derive(Default)]
struct EnvoyRequest {
    headers: OnceCell<Vec<(String, Vec<u8>)>>,
}

impl KeySource for EnvoyRequest {
    fn header(&self, name: &str) -> Vec<Vec<u8>> {
        if name == CONSUMER_HEADER {
            // Set by the auth filter, so there is one at most, and one small call reads it.
            let value = hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, name).ok().flatten();
            return value.into_iter().collect();
        }
        let headers = self
            .headers
            .get_or_init(|| hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default());
        headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }

    fn client_address(&self) -> Vec<u8> {
        hostcalls::get_property(vec!["source", "address"]).ok().flatten().unwrap_or_default()
    }

    fn route_name(&self) -> Vec<u8> {
        hostcalls::get_property(vec!["xds", "route_name"]).ok().flatten().unwrap_or_default()
    }
}

/// What is said where the route's policies or the filter's configuration cannot be read: nobody passes.
fn unreadable() -> LocalResponse {
    let detail = "the route's rate limit policy cannot be read";
    LocalResponse::unavailable("unknown_policy", detail, std::time::Duration::from_secs(1))
}
