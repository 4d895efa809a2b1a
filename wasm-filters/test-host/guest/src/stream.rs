//! The HTTP context: runs the script of its request, and says in the log when each callback came.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};

use crate::script;

/// One request.
pub struct Stream {
    /// Instructions that wait for the response, the call's answer, the body or the log.
    pub(crate) later: Vec<(String, String)>,
    quiet: bool,
}

impl Stream {
    /// A stream that has seen nothing yet.
    pub fn new() -> Self {
        Self { later: Vec::new(), quiet: false }
    }

    fn event(&self, text: &str) {
        if !self.quiet {
            log::debug!("event: {text}");
        }
    }

    /// Runs what was kept for `when`; any instruction may ask to stop.
    fn run_later(&mut self, when: &str) -> Action {
        let (now, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| at == when);
        self.later = later;
        let now: Vec<(String, String)> = now;
        let mut action = Action::Continue;
        for (_, instruction) in now {
            if script::run(self, &instruction) == Action::Pause {
                action = Action::Pause;
            }
        }
        action
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, trailers: usize) {
        self.event(&format!("call {token} answered: {headers} headers, {body} bytes, {trailers} trailers"));
        let status = if headers == 0 {
            Some(b"reset".to_vec())
        } else {
            self.get_http_call_response_header_bytes(":status")
        };
        let text = self.get_http_call_response_body(0, body).unwrap_or_default();
        script::out(&format!(
            "call {} {}",
            String::from_utf8_lossy(&status.unwrap_or_default()),
            String::from_utf8_lossy(&text)
        ));
        if self.run_later("call") == Action::Continue {
            self.resume_http_request();
        }
    }

    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        let body = self.get_grpc_call_response_body(0, size).unwrap_or_default();
        script::out(&format!("grpc {token} {status} {}", String::from_utf8_lossy(&body)));
        self.resume_http_request();
    }

    fn on_grpc_stream_initial_metadata(&mut self, token: u32, elements: u32) {
        let first = self.get_grpc_stream_initial_metadata_value("m");
        script::out(&format!("grpc-stream {token} initial {elements} {first:?}"));
    }

    fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
        let body = self.get_grpc_stream_message(0, size).unwrap_or_default();
        script::out(&format!("grpc-stream {token} message {}", String::from_utf8_lossy(&body)));
    }

    fn on_grpc_stream_trailing_metadata(&mut self, token: u32, elements: u32) {
        let first = self.get_grpc_stream_trailing_metadata_value("m");
        script::out(&format!("grpc-stream {token} trailing {elements} {first:?}"));
    }

    fn on_grpc_stream_close(&mut self, token: u32, status: u32) {
        let (code, message) = self.get_grpc_status();
        script::out(&format!("grpc-stream {token} closed {status} {code} {message:?}"));
        self.resume_http_request();
    }

    fn on_done(&mut self) -> bool {
        self.event("done");
        self.run_later("done");
        true
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.event("deleted");
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, count: usize, end_of_stream: bool) -> Action {
        let headers = hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default();
        self.quiet = headers.iter().any(|(name, _)| name == "x-quiet");
        self.event(&format!("request headers {count} {end_of_stream}"));
        let mut action = Action::Continue;
        for (name, value) in headers {
            let Some(when) = name.strip_prefix("x-do") else { continue };
            let text = String::from_utf8_lossy(&value).into_owned();
            if !when.is_empty() {
                self.later.push((when.trim_start_matches('-').to_string(), text));
            } else if script::run(self, &text) == Action::Pause {
                action = Action::Pause;
            }
        }
        action
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.event(&format!("request body {size} {end_of_stream}"));
        if !end_of_stream && self.later.iter().any(|(at, _)| at == "body") {
            return Action::Pause;
        }
        self.run_later("body")
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        self.event(&format!("request trailers {count}"));
        self.run_later("trailers")
    }

    fn on_http_response_headers(&mut self, count: usize, end_of_stream: bool) -> Action {
        self.event(&format!("response headers {count} {end_of_stream}"));
        self.run_later("response")
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.event(&format!("response body {size} {end_of_stream}"));
        self.run_later("response-body")
    }

    fn on_http_response_trailers(&mut self, count: usize) -> Action {
        self.event(&format!("response trailers {count}"));
        self.run_later("response-trailers")
    }

    fn on_log(&mut self) {
        self.event("log");
        self.run_later("log");
    }
}
