//! The instructions: one line of words each, the first names it.
//!
//! `map TYPE`, `get TYPE NAME`, `set|add TYPE NAME VALUE`, `remove TYPE NAME`, `setmap TYPE N=V…`,
//! `property A/B`, `set-property A/B VALUE`, `body TYPE START MAX`, `set-body TYPE START SIZE TEXT`, `time`,
//! `level`, `log LEVEL TEXT`, `reply STATUS [BODY [HEADER VALUE]]`, `pause`, `resume TYPE`, `reset`, `done`,
//! `panic`, `loop`, `alloc BYTES`, `effective ID`, `statuses`; [`crate::calls`] has those that reach out of the stream. `TYPE`
//! is the ABI's number.

use std::fmt::Write as _;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::HttpContext;
use proxy_wasm::types::{Action, BufferType, LogLevel, MapType};

use crate::calls;
use crate::stream::Stream;

/// Reports a result.
pub fn out(text: &str) {
    log::info!("out: {text}");
}

/// Runs one instruction. A host call that the SDK does not expect to fail panics, as it does in a real filter.
pub fn run(stream: &mut Stream, line: &str) -> Action {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
    let rest = |at: usize| words.get(at..).map(|rest| rest.join(" ")).unwrap_or_default();
    match words.as_slice() {
        ["map", kind] => {
            let map = hostcalls::get_map_bytes(map_type(kind)).unwrap_or_default();
            out(&format!("map {}", show(&map)));
        }
        ["get", kind, name] => {
            let value = hostcalls::get_map_value_bytes(map_type(kind), name).unwrap_or_default();
            out(&format!("get {name} {:?}", value.map(|value| escape(&value))));
        }
        ["set", kind, name, value] => {
            let _ = hostcalls::set_map_value_bytes(map_type(kind), name, Some(value.as_bytes()));
        }
        ["add", kind, name, value] => {
            let _ = hostcalls::add_map_value_bytes(map_type(kind), name, value.as_bytes());
        }
        ["remove", kind, name] => {
            let _ = hostcalls::remove_map_value(map_type(kind), name);
        }
        ["setmap", kind, pairs @ ..] => {
            let pairs = pairs.iter().filter_map(|pair| pair.split_once('=')).collect();
            let _ = hostcalls::set_map(map_type(kind), pairs);
        }
        ["property", path] => {
            let value = hostcalls::get_property(path.split('/').collect()).unwrap_or_default();
            out(&format!("property {path} {:?}", value.map(|value| escape(&value))));
        }
        ["set-property", path, value] => {
            let _ = hostcalls::set_property(path.split('/').collect(), Some(value.as_bytes()));
        }
        ["body", kind, start, max] => {
            let (start, max) = (start.parse().unwrap_or(0), max.parse().unwrap_or(usize::MAX / 2));
            let value = hostcalls::get_buffer(buffer_type(kind), start, max);
            out(&format!("body {:?}", value.map(|bytes| bytes.map(|bytes| escape(&bytes)))));
        }
        ["set-body", kind, start, size, ..] => {
            let (start, size) = (start.parse().unwrap_or(0), size.parse().unwrap_or(0));
            let _ = hostcalls::set_buffer(buffer_type(kind), start, size, rest(4).as_bytes());
        }
        ["time"] => {
            let since = hostcalls::get_current_time()
                .ok()
                .and_then(|now| now.duration_since(std::time::UNIX_EPOCH).ok());
            out(&format!("time {}", since.unwrap_or_default().as_nanos()));
        }
        ["level"] => out(&format!("level {:?}", hostcalls::get_log_level())),
        ["log", level, ..] => {
            let level = match *level {
                "trace" => LogLevel::Trace,
                "warn" => LogLevel::Warn,
                "critical" => LogLevel::Critical,
                _ => LogLevel::Error,
            };
            let _ = hostcalls::log(level, &rest(2));
        }
        ["reply", status, body @ ..] => {
            let headers = match body {
                [_, name, value] => vec![(*name, *value)],
                _ => vec![("x-reply", "yes")],
            };
            let body = body.first().map(|body| body.as_bytes());
            stream.send_http_response(status.parse().unwrap_or(500), headers, body);
            return Action::Pause;
        }
        ["pause"] => return Action::Pause,
        ["resume", "1"] => stream.resume_http_response(),
        ["resume", _] => stream.resume_http_request(),
        ["reset"] => stream.reset_http_request(),
        ["done"] => {
            let _ = hostcalls::done();
        }
        ["statuses"] => crate::statuses::all(),
        ["panic"] => {
            log::error!("about to fall over");
            std::process::abort();
        }
        ["loop"] =>
        {
            #[allow(clippy::empty_loop, reason = "an endless loop is what the host must stop")]
            loop {}
        }
        ["alloc", _] => {
            let bytes: Vec<u8> = Vec::with_capacity(number(1));
            out(&format!("alloc {}", std::hint::black_box(bytes).capacity()));
        }
        ["effective", id] => {
            out(&format!("effective {:?}", hostcalls::set_effective_context(id.parse().unwrap_or(0))));
        }
        other => return calls::run(stream, other),
    }
    Action::Continue
}

/// Bytes as text that shows every byte.
pub fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn show(map: &[(String, Vec<u8>)]) -> String {
    map.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = write!(text, "[{name}={}]", escape(value));
        text
    })
}

fn map_type(number: &str) -> MapType {
    match number {
        "1" => MapType::HttpRequestTrailers,
        "2" => MapType::HttpResponseHeaders,
        "3" => MapType::HttpResponseTrailers,
        "6" => MapType::HttpCallResponseHeaders,
        "7" => MapType::HttpCallResponseTrailers,
        _ => MapType::HttpRequestHeaders,
    }
}

fn buffer_type(number: &str) -> BufferType {
    match number {
        "1" => BufferType::HttpResponseBody,
        "4" => BufferType::HttpCallResponseBody,
        "6" => BufferType::VmConfiguration,
        "7" => BufferType::PluginConfiguration,
        _ => BufferType::HttpRequestBody,
    }
}
