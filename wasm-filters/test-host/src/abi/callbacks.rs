//! Every export that Envoy 1.40 looks for in a module of ABI 0.2.1, and how much of each is in here.

use super::Support::{self, Full, Partly, Refused};

/// A function that modules export. All are optional but the version and one of the allocators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callback {
    /// Name of the export.
    pub name: &'static str,
    /// Types of its parameters, as WebAssembly's text writes them, with a space between.
    pub params: &'static str,
    /// Type of its result; empty for none.
    pub result: &'static str,
    /// How much of it is called.
    pub support: Support,
}

/// The exports, in the order of the specification.
pub const CALLBACKS: &[Callback] = &[
    callback("proxy_abi_version_0_2_1", "", "", Full),
    callback("proxy_abi_version_0_2_0", "", "", Full),
    callback("_initialize", "", "", Full),
    callback("main", "i32 i32", "i32", Full),
    callback("__main_void", "", "i32", Full),
    callback("_start", "", "", Partly("only where there is no `_initialize`")),
    callback("malloc", "i32", "i32", Full),
    callback(
        "proxy_on_memory_allocate",
        "i32",
        "i32",
        Partly("only where there is no `malloc`, as in Envoy"),
    ),
    callback("proxy_on_context_create", "i32 i32", "", Full),
    callback("proxy_on_vm_start", "i32 i32", "i32", Full),
    callback("proxy_on_configure", "i32 i32", "i32", Full),
    callback("proxy_on_tick", "i32", "", Full),
    callback("proxy_on_queue_ready", "i32 i32", "", Full),
    callback("proxy_on_done", "i32", "i32", Full),
    callback("proxy_on_log", "i32", "", Full),
    callback("proxy_on_delete", "i32", "", Full),
    callback("proxy_on_new_connection", "i32", "i32", Full),
    callback("proxy_on_downstream_data", "i32 i32 i32", "i32", Full),
    callback("proxy_on_downstream_connection_close", "i32 i32", "", Full),
    callback("proxy_on_upstream_data", "i32 i32 i32", "i32", Full),
    callback("proxy_on_upstream_connection_close", "i32 i32", "", Full),
    callback("proxy_on_request_headers", "i32 i32 i32", "i32", Full),
    callback("proxy_on_request_body", "i32 i32 i32", "i32", Full),
    callback("proxy_on_request_trailers", "i32 i32", "i32", Full),
    callback("proxy_on_response_headers", "i32 i32 i32", "i32", Full),
    callback("proxy_on_response_body", "i32 i32 i32", "i32", Full),
    callback("proxy_on_response_trailers", "i32 i32", "i32", Full),
    callback("proxy_on_http_call_response", "i32 i32 i32 i32 i32", "", Full),
    callback("proxy_on_grpc_receive_initial_metadata", "i32 i32 i32", "", Full),
    callback("proxy_on_grpc_receive", "i32 i32 i32", "", Full),
    callback("proxy_on_grpc_receive_trailing_metadata", "i32 i32 i32", "", Full),
    callback("proxy_on_grpc_close", "i32 i32 i32", "", Full),
    callback("proxy_on_foreign_function", "i32 i32 i32", "", Full),
    callback(
        "proxy_on_request_metadata",
        "i32 i32",
        "i32",
        Refused("METADATA frames of HTTP/2; not in the ABI, though Envoy calls it"),
    ),
    callback("proxy_on_response_metadata", "i32 i32", "i32", Refused("as the request's")),
];

const fn callback(
    name: &'static str,
    params: &'static str,
    result: &'static str,
    support: Support,
) -> Callback {
    Callback { name, params, result, support }
}
