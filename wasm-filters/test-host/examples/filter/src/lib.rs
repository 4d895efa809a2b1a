//! Asks a service who a request's `x-token` belongs to, tells the upstream in `x-user`, and remembers it for all workers.
//!
//! It is configured with the name of the service's cluster. Nothing in here knows of the test host.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType};

/// Where workers tell of the users they asked about.
const QUEUE: &str = "asked";

#[allow(unsafe_code, missing_docs, reason = "the SDK's macro exports the module's entry point")]
mod entry {
    use super::*;

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Info);
        proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root::default()) });
    }}
}

#[derive(Default)]
struct Root {
    cluster: String,
    asked: Option<u32>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        self.cluster = String::from_utf8_lossy(&configuration).trim().to_string();
        self.asked = hostcalls::define_metric(MetricType::Counter, "users.asked").ok();
        self.register_shared_queue(QUEUE);
        if self.cluster.is_empty() {
            log::error!("the configuration names no cluster");
        }
        !self.cluster.is_empty()
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(user)) = self.dequeue_shared_queue(queue) {
            log::info!("asked about {}", String::from_utf8_lossy(&user));
            if let Some(asked) = self.asked {
                let _ = hostcalls::increment_metric(asked, 1);
            }
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { cluster: self.cluster.clone(), token: String::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    cluster: String,
    token: String,
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        // A client must not say itself who it is.
        self.set_http_request_header("x-user", None);
        let token = self.get_http_request_header_bytes("x-token").unwrap_or_default();
        self.token = String::from_utf8_lossy(&token).into_owned();
        if self.token.is_empty() {
            self.send_http_response(401, vec![], Some(b"no token\n"));
            return Action::Pause;
        }
        if let (Some(user), _) = self.get_shared_data(&self.token) {
            self.set_http_request_header_bytes("x-user", Some(&user));
            return Action::Continue;
        }
        let headers = vec![
            (":method", "GET"),
            (":path", "/user"),
            (":authority", "users.example"),
            ("x-token", self.token.as_str()),
        ];
        let limit = Duration::from_millis(500);
        if let Err(status) = self.dispatch_http_call(&self.cluster, headers, None, vec![], limit) {
            log::warn!("cannot ask {}: {status:?}", self.cluster);
            self.send_http_response(503, vec![], None);
        }
        Action::Pause
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _: u32, _: usize, size: usize, _: usize) {
        let status = self.get_http_call_response_header_bytes(":status").unwrap_or_default();
        let user = self.get_http_call_response_body(0, size).unwrap_or_default();
        match status.as_slice() {
            b"200" => {
                let _ = self.set_shared_data(&self.token, Some(&user), None);
                if let Some(queue) = self.resolve_shared_queue("", QUEUE) {
                    let _ = self.enqueue_shared_queue(queue, Some(&user));
                }
                self.set_http_request_header_bytes("x-user", Some(&user));
                self.resume_http_request();
            }
            b"404" => self.send_http_response(403, vec![], Some(b"nobody's token\n")),
            _ => self.send_http_response(503, vec![], None),
        }
    }
}
