//! A filter that does what request headers tell it to, so that the host's tests can reach every host function
//! through the SDK that real filters use.
//!
//! Each `x-do` header of a request is one instruction (see [`script`]); each result is logged at info level as
//! `out: …`, and each callback as `event: …`. There is no decision in here: what a filter should do belongs in a filter.

use proxy_wasm::traits::RootContext;
use proxy_wasm::types::LogLevel;

mod calls;
mod root;
mod script;
mod statuses;
mod stream;

#[allow(unsafe_code, missing_docs, reason = "the SDK's macro exports the module's entry point")]
mod entry {
    use super::*;

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Trace);
        proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(root::Root::default()) });
    }}
}
