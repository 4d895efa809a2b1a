//! One request, from its headers to the decision.
//!
//! The order of the host calls, and nothing else.

use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use tollgate_filter_config::RoutePolicies;
use tollgate_filter_core::api_key::Answer;
use tollgate_filter_core::auth::{Allowed, Decision, Pending};
use tollgate_filter_core::problem::LocalResponse;

use crate::host::{self, BoringSsl};
use crate::plugin::{self, Plugin};

/// Longest introspection answer that is read.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// A request.
pub struct Request {
    /// `None` where no configuration was ever accepted.
    plugin: Option<Rc<Plugin>>,
    state: State,
}

/// What is needed once introspection answers.
struct Waiting {
    pending: Pending,
    headers: Vec<(String, Vec<u8>)>,
}

enum State {
    /// Not decided, or on its way.
    Passing,
    /// Introspection was asked.
    Waiting(Box<Waiting>),
    /// Answered here; nothing more may pass.
    Answered,
}

impl Request {
    /// A request under `plugin`.
    pub fn new(plugin: Option<Rc<Plugin>>) -> Self {
        Self { plugin, state: State::Passing }
    }

    fn start(&mut self, plugin: &Plugin) -> Action {
        let headers = host::request_headers();
        let now = host::now();
        let decision = match host::route_policies().map(String::from_utf8) {
            Ok(Ok(policies)) => {
                let policy = RoutePolicies::parse(&policies).auth;
                plugin.authenticator.decide(policy, &headers, now, &BoringSsl)
            }
            _ => Decision::Deny(unreadable()),
        };
        match decision {
            Decision::Introspect(pending) => match plugin::ask(&pending) {
                Ok(()) => {
                    plugin.counters.introspections.add();
                    self.state = State::Waiting(Box::new(Waiting { pending, headers }));
                    Action::Pause
                }
                // No such cluster, or the call could not be made.
                Err(_) => self.finish(plugin, plugin.authenticator.resume(&pending, &headers, None, now)),
            },
            decision => self.finish(plugin, decision),
        }
    }

    fn finish(&mut self, plugin: &Plugin, decision: Decision) -> Action {
        match decision {
            Decision::Allow(allowed) => {
                if allowed.cached {
                    plugin.counters.cache_hits.add();
                }
                if allowed.identity.is_some() {
                    plugin.counters.allowed.add();
                }
                apply(&allowed);
                self.state = State::Passing;
                Action::Continue
            }
            Decision::Deny(response) => {
                match response.status {
                    503 => plugin.counters.unavailable.add(),
                    _ => plugin.counters.denied.add(),
                }
                self.answer(&response)
            }
            // Introspection answers a question; it never asks another.
            Decision::Introspect(_) => self.answer(&unreadable()),
        }
    }

    fn answer(&mut self, response: &LocalResponse) -> Action {
        self.state = State::Answered;
        host::respond(response);
        Action::Pause
    }

    /// Body and trailers wait for the decision.
    fn follow(&self) -> Action {
        match self.state {
            State::Passing => Action::Continue,
            State::Waiting(_) | State::Answered => Action::Pause,
        }
    }
}

impl Context for Request {
    fn on_http_call_response(&mut self, _: u32, num_headers: usize, body_size: usize, _: usize) {
        let State::Waiting(waiting) = std::mem::replace(&mut self.state, State::Answered) else {
            return;
        };
        let Some(plugin) = self.plugin.clone() else { return };
        let Waiting { pending, headers } = *waiting;
        let (status, body) = host::call_response(num_headers, body_size.min(MAX_ANSWER_BYTES));
        let answer = Answer::parse(&status, &body);
        let decision = plugin.authenticator.resume(&pending, &headers, answer.as_ref(), host::now());
        if self.finish(&plugin, decision) == Action::Continue {
            let _ = hostcalls::resume_http_request();
        }
    }
}

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
}

fn apply(allowed: &Allowed) {
    allowed.remove.iter().for_each(|name| host::remove_header(name));
    let identity = allowed.identity.iter().flat_map(|identity| identity.headers());
    for (name, value) in identity {
        if let Some(value) = value {
            host::set_header(name, value);
        }
    }
}

/// What is said where the route's policies or the filter's configuration cannot be read: nobody passes.
fn unreadable() -> LocalResponse {
    let detail = "the route's auth policy cannot be read";
    LocalResponse::unavailable("unknown_policy", detail, std::time::Duration::from_secs(1))
}
