//! The root context: configuration, ticks and queues. Instructions for it are words of the plugin configuration.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, MetricType};

use crate::stream::Stream;

/// What the configuration asked for.
#[derive(Default)]
pub struct Root {
    words: Vec<String>,
    ticks: u64,
}

impl Root {
    fn wants(&self, word: &str) -> bool {
        self.words.iter().any(|have| have == word)
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _: usize) {
        log::info!("root call {token} answered: {headers} headers, {body} bytes");
    }

    fn on_done(&mut self) -> bool {
        log::info!("root done");
        !self.wants("done-later")
    }
}

impl RootContext for Root {
    fn on_vm_start(&mut self, size: usize) -> bool {
        let text = self.get_vm_configuration().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        log::info!("vm start {size} {text:?}");
        text.as_deref() != Some("refuse")
    }

    fn on_configure(&mut self, size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        log::info!("configure {size} {text}");
        self.words = text.split_whitespace().map(str::to_string).collect();
        if self.wants("statuses") {
            crate::statuses::all();
        }
        for word in &self.words {
            if let Some(period) = word.strip_prefix("tick=") {
                self.set_tick_period(Duration::from_millis(period.parse().unwrap_or(1000)));
            }
            if let Some(name) = word.strip_prefix("queue=") {
                log::info!("queue {}", self.register_shared_queue(name));
            }
        }
        if self.wants("count-configure")
            && let Ok(id) = hostcalls::define_metric(MetricType::Counter, "configured")
        {
            let _ = hostcalls::increment_metric(id, 1);
        }
        if self.wants("panic-on-configure") {
            std::process::abort();
        }
        !self.wants("refuse")
    }

    fn on_tick(&mut self) {
        self.ticks += 1;
        log::info!("tick {}", self.ticks);
        if self.wants("tick-statuses") && self.ticks == 1 {
            crate::statuses::all();
        }
        if self.wants("tick-call") {
            let headers = vec![(":method", "GET"), (":path", "/tick"), (":authority", "root")];
            let sent = self.dispatch_http_call("up", headers, None, vec![], Duration::from_secs(1));
            log::info!("tick call {sent:?}");
        }
        if self.wants("tick-loop") {
            #[allow(clippy::empty_loop, reason = "an endless loop is what the host must stop")]
            loop {}
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(item)) = self.dequeue_shared_queue(queue) {
            log::info!("queue {queue} gave {}", String::from_utf8_lossy(&item));
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new()))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
