//! What the filters call of the proxy, and what it calls of them: as much of the proxy-wasm ABI 0.2.1 as they use.
//!
//! In Wasm these are the imports and exports of a module. Elsewhere, the calls go to whoever implements [`Host`]:
//! the filters as a native module of Envoy's (`../native`) run so.
//!
//! Why not the `proxy-wasm` crate: it exports every callback there is, and a proxy enters the VM for each callback
//! that a module exports, seven times a request, where two or three do; it finds the context of each in hash maps,
//! copies every header into two allocations of its own, and panics on statuses that it doesn't expect. Here a filter
//! exports what it implements (`export!`), gets results as the bytes that the host wrote, and a status is never a
//! panic.
//!
//! All that is unsafe in the filters is in this crate: imports (`raw`), memory that the host fills (`memory`), and the
//! host that a native call finds. What the calls are for is not known here.

#![expect(unsafe_code, reason = "host calls pass pointers; this crate is where that ends")]

mod callbacks;
#[cfg(not(target_family = "wasm"))]
mod native;
mod types;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(target_family = "wasm")]
use self::wasm::calls as host;
#[cfg(not(target_family = "wasm"))]
use native as host;

pub use callbacks::{Action, Module};
pub use host::{
    CALLS_OUTLIVE_PLUGINS, add_header, configuration, continue_request, current_time_nanos, exists,
    grpc_message, header, header_pairs, http_call_body, log_error, property, remove_header, replace_header,
    send_grpc_call, send_http_call, send_response, set_effective_context, set_shared_data, set_tick_period,
    shared_data,
};
#[cfg(not(target_family = "wasm"))]
pub use native::{Host, with_host};
pub use types::{Counter, GrpcCall, HttpCall, Map, Result, Status, serialize};
#[cfg(target_family = "wasm")]
pub use wasm::calls::call_foreign_function;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use wasm::memory;
