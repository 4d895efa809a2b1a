//! As much of Envoy's side as the tests of [`crate::worker`] need: what no request can bring about in a real one. A handle
//! is a number, and a scheduler is its stream's.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::ffi::{Buffer, Handle, Header};

/// What Envoy was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Continue,
    Respond(u32),
    Schedule,
}

static SAID: Mutex<BTreeMap<usize, Vec<Said>>> = Mutex::new(BTreeMap::new());

/// The handle of this number.
pub fn handle(number: usize) -> Handle {
    std::ptr::without_provenance_mut(number)
}

/// What Envoy was told of this stream.
pub fn said_of(number: usize) -> Vec<Said> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned().unwrap_or_default()
}

fn say(envoy: Handle, said: Said) {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).entry(envoy.addr()).or_default().push(said);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_log(_level: u32, message: Buffer) {
    // SAFETY: it is there until this returns.
    eprintln!("{}", String::from_utf8_lossy(unsafe { message.bytes() }));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_new(filter: Handle) -> Handle {
    filter
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_commit(scheduler: Handle, _event: u64) {
    say(scheduler, Said::Schedule);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_delete(_scheduler: Handle) {}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_continue_decoding(filter: Handle) {
    say(filter, Said::Continue);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_send_response(
    filter: Handle,
    status: u32,
    _headers: *const Header,
    _headers_size: usize,
    _body: Buffer,
    _details: Buffer,
) {
    say(filter, Said::Respond(status));
}

/// No request has a route.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
    _filter: Handle,
    _attribute: u32,
    _value: *mut Buffer,
) -> bool {
    false
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_cluster_name(
    _filter: Handle,
    _name: *mut Buffer,
) -> bool {
    false
}

/// What the tests call nothing of, for the linker.
macro_rules! absent {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() {
                std::process::abort();
            }
        )*
    };
}

absent! {
    envoy_dynamic_module_callback_bootstrap_extension_config_define_counter
    envoy_dynamic_module_callback_bootstrap_extension_config_increment_counter
    envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_commit
    envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete
    envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_new
    envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete
    envoy_dynamic_module_callback_bootstrap_extension_http_callout
    envoy_dynamic_module_callback_bootstrap_extension_timer_delete
    envoy_dynamic_module_callback_bootstrap_extension_timer_enable
    envoy_dynamic_module_callback_bootstrap_extension_timer_new
    envoy_dynamic_module_callback_get_concurrency
    envoy_dynamic_module_callback_http_add_header
    envoy_dynamic_module_callback_http_filter_get_worker_index
    envoy_dynamic_module_callback_http_filter_http_callout
    envoy_dynamic_module_callback_http_get_header
    envoy_dynamic_module_callback_http_get_headers
    envoy_dynamic_module_callback_http_get_headers_size
    envoy_dynamic_module_callback_http_set_header
}
