//! Instructions that reach out of the stream: calls, shared data, queues, metrics, foreign functions.
//!
//! `http CLUSTER PATH [MILLISECONDS [BODY]]` and `grpc CLUSTER TEXT` pause until they are answered; `grpc-open
//! CLUSTER`, `grpc-send TOKEN TEXT`, `grpc-close TOKEN`, `grpc-cancel TOKEN`; `shared-get KEY`, `shared-set KEY VALUE
//! [CAS]`; `queue-push [VM:]NAME TEXT`; `metric counter|gauge|histogram NAME get|add|set [VALUE]`; `foreign NAME HEX`.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::Context;
use proxy_wasm::types::{Action, MetricType};

use crate::script::{escape, out};
use crate::stream::Stream;

/// Runs one instruction.
pub fn run(stream: &mut Stream, words: &[&str]) -> Action {
    match words {
        ["http", cluster, path, rest @ ..] => {
            let timeout = rest.first().and_then(|word| word.parse().ok()).unwrap_or(1000);
            let body = rest.get(1).map(|body| body.as_bytes());
            let headers = vec![(":method", "POST"), (":path", *path), (":authority", "callee")];
            let sent =
                stream.dispatch_http_call(cluster, headers, body, vec![], Duration::from_millis(timeout));
            out(&format!("http {sent:?}"));
            if sent.is_ok() { Action::Pause } else { Action::Continue }
        }
        ["http-bare", cluster] => {
            let sent = stream.dispatch_http_call(cluster, vec![], None, vec![], Duration::from_secs(1));
            out(&format!("http {sent:?}"));
            Action::Continue
        }
        ["grpc", cluster, text] => {
            let sent = stream.dispatch_grpc_call(
                cluster,
                "test.Echo",
                "Say",
                vec![("m", b"1")],
                Some(text.as_bytes()),
                Duration::from_secs(1),
            );
            out(&format!("grpc {sent:?}"));
            if sent.is_ok() { Action::Pause } else { Action::Continue }
        }
        ["grpc-open", cluster] => {
            let opened = stream.open_grpc_stream(cluster, "test.Echo", "Talk", vec![("m", b"1")]);
            out(&format!("grpc-open {opened:?}"));
            if opened.is_ok() { Action::Pause } else { Action::Continue }
        }
        ["grpc-send", token, text] => {
            stream.send_grpc_stream_message(token.parse().unwrap_or(0), Some(text.as_bytes()), false);
            Action::Continue
        }
        ["grpc-close", token] => {
            out(&format!("grpc-close {:?}", hostcalls::close_grpc_stream(token.parse().unwrap_or(0))));
            Action::Continue
        }
        ["grpc-cancel", token] => {
            out(&format!("grpc-cancel {:?}", hostcalls::cancel_grpc_call(token.parse().unwrap_or(0))));
            Action::Continue
        }
        ["metric", kind, name, operation, value @ ..] => {
            let value = value.first().and_then(|word| word.parse().ok()).unwrap_or(0);
            metric(kind, name, operation, value);
            Action::Continue
        }
        other => shared(other),
    }
}

fn shared(words: &[&str]) -> Action {
    match words {
        ["shared-get", key] => {
            let (value, cas) = hostcalls::get_shared_data(key).unwrap_or_default();
            out(&format!("shared {key} {:?} {cas:?}", value.map(|value| escape(&value))));
        }
        ["shared-set", key, value, cas @ ..] => {
            let cas = cas.first().and_then(|word| word.parse().ok());
            out(&format!("shared-set {:?}", hostcalls::set_shared_data(key, Some(value.as_bytes()), cas)));
        }
        ["queue-push", name, text] => {
            let (vm, name) = name.split_once(':').unwrap_or(("", name));
            match hostcalls::resolve_shared_queue(vm, name) {
                Ok(Some(queue)) => {
                    out(&format!("push {:?}", hostcalls::enqueue_shared_queue(queue, Some(text.as_bytes()))));
                }
                other => out(&format!("push {other:?}")),
            }
        }
        ["queue-pop", queue] => {
            out(&format!("pop {:?}", hostcalls::dequeue_shared_queue(queue.parse().unwrap_or(0))));
        }
        ["foreign", name, hex] => {
            let result = hostcalls::call_foreign_function(name, Some(&unhex(hex)));
            out(&format!("foreign {:?}", result.map(|bytes| bytes.map(|bytes| escape(&bytes)))));
        }
        other => out(&format!("unknown instruction {other:?}")),
    }
    Action::Continue
}

fn metric(kind: &str, name: &str, operation: &str, value: i64) {
    let kind = match kind {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        _ => MetricType::Histogram,
    };
    let Ok(id) = hostcalls::define_metric(kind, name) else { return };
    match operation {
        "add" => out(&format!("metric {:?}", hostcalls::increment_metric(id, value))),
        "set" => out(&format!("metric {:?}", hostcalls::record_metric(id, value.unsigned_abs()))),
        _ => out(&format!("metric {:?}", hostcalls::get_metric(id))),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
