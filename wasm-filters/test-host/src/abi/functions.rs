//! Every function that Envoy 1.40 gives to a module of ABI 0.2.1, and how much of each is in here.
//!
//! Names, types and fixed answers were read off Envoy itself, by modules that import one function each. What is not in
//! this table does not link, in Envoy neither.

use super::Support::{self, Answers, Full, Partly};
use Answer::{Always, Nothing, StandardStreams};

/// A function that modules import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFunction {
    /// Module of the import: `env` or `wasi_snapshot_preview1` (which is there as `wasi_unstable`, too).
    pub module: &'static str,
    /// Name of the import.
    pub name: &'static str,
    /// Types of its parameters, as WebAssembly's text writes them, with a space between.
    pub params: &'static str,
    /// Type of its result; empty for none.
    pub result: &'static str,
    /// How much of it is there.
    pub support: Support,
    /// Whether Envoy lets it be called from `_initialize`, `main` and `_start`.
    pub at_start: bool,
}

/// What a function answers that does nothing in Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Always this number.
    Always(u32),
    /// 0 for standard output and error, and 8 (bad file) for all others.
    StandardStreams,
    /// Nothing.
    Nothing,
}

const PROPERTIES: &str = "what the test set, `request.*`, `response.*`, `plugin_*`, and what filters set";
const FOREIGN: &str = "Envoy's but for CEL (`expr_*` is `Unimplemented`), and the test's own";

/// The functions, those of the specification first.
pub const HOST_FUNCTIONS: &[HostFunction] = &[
    // Logging, time and ticks.
    fixed("proxy_log", "i32 i32 i32", Full),
    env("proxy_get_log_level", "i32", Full),
    env("proxy_get_current_time_nanoseconds", "i32", Full),
    env("proxy_set_tick_period_milliseconds", "i32", Full),
    // Contexts and streams.
    env("proxy_set_effective_context", "i32", Full),
    env("proxy_done", "", Full),
    env("proxy_continue_stream", "i32", Full),
    env("proxy_close_stream", "i32", Full),
    env("proxy_send_local_response", "i32 i32 i32 i32 i32 i32 i32 i32", Full),
    env("proxy_get_status", "i32 i32 i32", Full),
    // Headers, trailers and metadata.
    env("proxy_get_header_map_pairs", "i32 i32 i32", Full),
    env("proxy_set_header_map_pairs", "i32 i32 i32", Full),
    env("proxy_get_header_map_size", "i32 i32", Full),
    env("proxy_get_header_map_value", "i32 i32 i32 i32 i32", Full),
    env("proxy_add_header_map_value", "i32 i32 i32 i32 i32", Full),
    env("proxy_replace_header_map_value", "i32 i32 i32 i32 i32", Full),
    env("proxy_remove_header_map_value", "i32 i32 i32", Full),
    // Buffers.
    env("proxy_get_buffer_bytes", "i32 i32 i32 i32 i32", Full),
    env("proxy_get_buffer_status", "i32 i32 i32", Full),
    env("proxy_set_buffer_bytes", "i32 i32 i32 i32 i32", Full),
    // Properties.
    env("proxy_get_property", "i32 i32 i32 i32", Partly(PROPERTIES)),
    env("proxy_set_property", "i32 i32 i32 i32", Full),
    // Callouts.
    env("proxy_http_call", "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32", Full),
    env("proxy_grpc_call", "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32", Full),
    env("proxy_grpc_stream", "i32 i32 i32 i32 i32 i32 i32 i32 i32", Full),
    env("proxy_grpc_send", "i32 i32 i32 i32", Full),
    env("proxy_grpc_close", "i32", Full),
    env("proxy_grpc_cancel", "i32", Full),
    // Shared data and queues.
    env("proxy_get_shared_data", "i32 i32 i32 i32 i32", Full),
    env("proxy_set_shared_data", "i32 i32 i32 i32 i32", Full),
    env("proxy_register_shared_queue", "i32 i32 i32", Full),
    env("proxy_resolve_shared_queue", "i32 i32 i32 i32 i32", Full),
    env("proxy_enqueue_shared_queue", "i32 i32 i32", Full),
    env("proxy_dequeue_shared_queue", "i32 i32 i32", Full),
    // Metrics.
    env("proxy_define_metric", "i32 i32 i32 i32", Full),
    env("proxy_increment_metric", "i32 i64", Full),
    env("proxy_record_metric", "i32 i64", Full),
    env("proxy_get_metric", "i32 i32", Full),
    // Foreign functions.
    env("proxy_call_foreign_function", "i32 i32 i32 i32 i32 i32", Partly(FOREIGN)),
    // WASI.
    wasi("args_get", "i32 i32", Answers(Always(0)), true),
    wasi("args_sizes_get", "i32 i32", Full, true),
    wasi("clock_time_get", "i32 i64 i32", Full, true),
    wasi("environ_get", "i32 i32", Full, true),
    wasi("environ_sizes_get", "i32 i32", Full, true),
    wasi("fd_write", "i32 i32 i32 i32", Full, true),
    HostFunction { result: "", ..wasi("proc_exit", "i32", Answers(Nothing), false) },
    wasi("random_get", "i32 i32", Full, true),
    wasi("clock_res_get", "i32 i32", Full, true),
    wasi("fd_advise", "i32 i64 i64 i32", Answers(Always(0)), true),
    wasi("fd_allocate", "i32 i64 i64", Answers(StandardStreams), true),
    wasi("fd_close", "i32", Answers(Always(0)), false),
    wasi("fd_datasync", "i32", Answers(StandardStreams), true),
    wasi("fd_fdstat_get", "i32 i32", Full, true),
    wasi("fd_fdstat_set_flags", "i32 i32", Answers(Always(52)), true),
    wasi("fd_fdstat_set_rights", "i32 i64 i64", Answers(StandardStreams), true),
    wasi("fd_filestat_get", "i32 i32", Answers(Always(8)), true),
    wasi("fd_filestat_set_size", "i32 i64", Answers(StandardStreams), true),
    wasi("fd_filestat_set_times", "i32 i64 i64 i32", Answers(StandardStreams), true),
    wasi("fd_pread", "i32 i32 i32 i64 i32", Answers(Always(52)), true),
    wasi("fd_prestat_dir_name", "i32 i32 i32", Answers(Always(52)), true),
    wasi("fd_prestat_get", "i32 i32", Answers(Always(8)), true),
    wasi("fd_pwrite", "i32 i32 i32 i64 i32", Full, true),
    wasi("fd_read", "i32 i32 i32 i32", Answers(Always(52)), false),
    wasi("fd_readdir", "i32 i32 i32 i64 i32", Answers(Always(20)), true),
    wasi("fd_renumber", "i32 i32", Answers(Always(8)), true),
    wasi("fd_seek", "i32 i64 i32 i32", Answers(Always(0)), false),
    wasi("fd_sync", "i32", Answers(StandardStreams), true),
    wasi("fd_tell", "i32 i32", Answers(StandardStreams), true),
    wasi("path_create_directory", "i32 i32 i32", Answers(Always(58)), true),
    wasi("path_filestat_get", "i32 i32 i32 i32 i32", Answers(Always(58)), true),
    wasi("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32", Answers(Always(58)), true),
    wasi("path_link", "i32 i32 i32 i32 i32 i32", Answers(Always(58)), true),
    wasi("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32", Answers(Always(44)), false),
    wasi("path_readlink", "i32 i32 i32 i32 i32 i32", Answers(Always(58)), true),
    wasi("path_remove_directory", "i32 i32 i32", Answers(Always(58)), true),
    wasi("path_rename", "i32 i32 i32 i32 i32 i32", Answers(Always(58)), true),
    wasi("path_symlink", "i32 i32 i32 i32", Answers(Always(58)), true),
    wasi("path_unlink_file", "i32 i32 i32", Answers(Always(58)), true),
    wasi("poll_oneoff", "i32 i32 i32 i32", Answers(Always(0)), true),
    wasi("sched_yield", "", Answers(Always(0)), false),
    wasi("sock_accept", "i32 i32 i32", Answers(Always(58)), true),
    wasi("sock_recv", "i32 i32 i32 i32 i32 i32", Answers(Always(58)), true),
    wasi("sock_send", "i32 i32 i32 i32 i32", Answers(Always(58)), true),
    wasi("sock_shutdown", "i32 i32", Answers(Always(58)), true),
    // What compilers import.
    HostFunction { result: "", ..fixed("emscripten_notify_memory_growth", "i32", Answers(Nothing)) },
    env("pthread_equal", "i32 i32", Full),
];

const fn env(name: &'static str, params: &'static str, support: Support) -> HostFunction {
    HostFunction { at_start: false, ..fixed(name, params, support) }
}

const fn fixed(name: &'static str, params: &'static str, support: Support) -> HostFunction {
    HostFunction { module: "env", name, params, result: "i32", support, at_start: true }
}

const fn wasi(name: &'static str, params: &'static str, support: Support, at_start: bool) -> HostFunction {
    HostFunction { module: "wasi_snapshot_preview1", at_start, ..fixed(name, params, support) }
}
