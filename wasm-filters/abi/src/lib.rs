//! The proxy-wasm ABI 0.2.1, as much of it as the filters use.
//!
//! Why not the `proxy-wasm` crate: it exports every callback there is, and a proxy enters the VM for each callback
//! that a module exports, seven times a request, where two or three do; it finds the context of each in hash maps,
//! copies every header into two allocations of its own, and panics on statuses that it doesn't expect. Here a filter
//! exports what it implements ([`export!`]), gets results as the bytes that the host wrote, and a status is never a
//! panic.
//!
//! All that is unsafe in the filters is in this crate: imports (`raw`), and memory that the host fills ([`memory`]).
//! What the calls are for is not known here.

#![expect(unsafe_code, reason = "host calls pass pointers; this crate is where that ends")]

mod callbacks;
mod calls;
#[doc(hidden)]
pub mod memory;
mod raw;

pub use callbacks::{Action, Module};
pub use calls::{
    Counter, GrpcCall, HttpCall, Map, Status, add_header, call_foreign_function, configuration,
    continue_request, current_time_nanos, exists, grpc_message, header, header_pairs, http_call_body,
    log_error, property, remove_header, replace_header, send_grpc_call, send_http_call, send_response,
    set_effective_context, set_shared_data, set_tick_period, shared_data,
};
