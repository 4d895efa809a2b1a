//! The same calls where the filters are native code: they go to the [`Host`] that called in, on its thread.

use std::cell::Cell;
use std::ptr::NonNull;
use std::time::Duration;

use crate::types::{Counter, GrpcCall, HttpCall, Map, Result, Status};

/// Whether an answer still comes when the plugin that made the call is gone.
pub const CALLS_OUTLIVE_PLUGINS: bool = true;

/// What a filter calls. Contexts are as in [`crate::Module`]; calls are about the effective one.
#[expect(missing_docs, reason = "each is the call of its name")]
pub trait Host {
    fn current_time_nanos(&mut self) -> u64;
    fn log_error(&mut self, text: &str);
    fn set_tick_period(&mut self, period: Duration);
    fn set_effective_context(&mut self, context: u32) -> Result;
    fn property(&mut self, path: &[u8]) -> Result<Vec<u8>>;
    fn configuration(&mut self, size: usize) -> Result<Vec<u8>>;
    fn call_body(&mut self, max: usize) -> Result<Vec<u8>>;
    /// As [`crate::serialize`] makes them.
    fn header_pairs(&mut self, map: Map) -> Result<Vec<u8>>;
    fn header(&mut self, map: Map, name: &[u8]) -> Result<Vec<u8>>;
    fn add_header(&mut self, map: Map, name: &[u8], value: &[u8]) -> Result;
    fn replace_header(&mut self, map: Map, name: &[u8], value: &[u8]) -> Result;
    fn remove_header(&mut self, map: Map, name: &[u8]) -> Result;
    fn send_response(&mut self, status: u32, headers: &[(&[u8], &[u8])], body: &[u8]) -> Result;
    fn continue_request(&mut self) -> Result;
    fn send_http_call(&mut self, call: &HttpCall<'_>) -> Result<u32>;
    fn send_grpc_call(&mut self, call: &GrpcCall<'_>) -> Result<u32>;
    fn shared_data(&mut self, key: &[u8]) -> Result<(Vec<u8>, u32)>;
    fn set_shared_data(&mut self, key: &[u8], value: &[u8], version: u32) -> Result;
    fn define_counter(&mut self, metric: &str, labels: &[(&str, &str)]) -> Result<u32>;
    fn add_to_counter(&mut self, counter: u32, count: u64);
}

thread_local! {
    static HOST: Cell<Option<NonNull<dyn Host>>> = const { Cell::new(None) };
}

/// Has the calls that `run` makes go to `host`.
pub fn with_host<T>(host: &mut (dyn Host + '_), run: impl FnOnce() -> T) -> T {
    struct Reset(Option<NonNull<dyn Host>>);
    impl Drop for Reset {
        fn drop(&mut self) {
            HOST.set(self.0);
        }
    }
    let host: *mut (dyn Host + '_) = host;
    // SAFETY: only the lifetime changes, and `Reset` forgets the pointer before `host` ends, also in a panic.
    let host = unsafe { std::mem::transmute::<*mut (dyn Host + '_), *mut (dyn Host + 'static)>(host) };
    let _reset = Reset(HOST.replace(NonNull::new(host)));
    run()
}

/// Calls the host; it is nobody else's meanwhile.
fn host<T>(call: impl FnOnce(&mut dyn Host) -> T) -> Option<T> {
    let mut host = HOST.take()?;
    // SAFETY: `with_host` borrows the host for as long as it is here, and `take` makes this the only use.
    let result = call(unsafe { host.as_mut() });
    HOST.set(Some(host));
    Some(result)
}

fn call<T>(call: impl FnOnce(&mut dyn Host) -> Result<T>) -> Result<T> {
    host(call).unwrap_or(Err(Status::Failed(0)))
}

/// Nanoseconds since the epoch; 0 where the host does not tell.
pub fn current_time_nanos() -> u64 {
    host(|host| host.current_time_nanos()).unwrap_or_default()
}

/// Writes to the proxy's log.
pub fn log_error(text: &str) {
    host(|host| host.log_error(text));
}

/// Has the root context ticked so often.
pub fn set_tick_period(period: Duration) {
    host(|host| host.set_tick_period(period));
}

/// Makes host calls be about `context`.
pub fn set_effective_context(context: u32) -> Result {
    call(|host| host.set_effective_context(context))
}

/// Whether there is such a context. Host calls are about it then.
pub fn exists(context: u32) -> bool {
    set_effective_context(context).is_ok()
}

/// A property by its path, segments with a NUL between.
pub fn property(path: &[u8]) -> Result<Vec<u8>> {
    call(|host| host.property(path))
}

/// The plugin configuration of `size` bytes, while configuring.
pub fn configuration(size: usize) -> Result<Vec<u8>> {
    call(|host| host.configuration(size))
}

/// The first `max` bytes of the body of a call's response.
pub fn http_call_body(max: usize) -> Result<Vec<u8>> {
    call(|host| host.call_body(max))
}

/// The first `max` bytes of a gRPC response.
pub fn grpc_message(max: usize) -> Result<Vec<u8>> {
    call(|host| host.call_body(max))
}

/// All headers, serialized: a count, the sizes of each name and value, then these with a NUL after each.
pub fn header_pairs(map: Map) -> Result<Vec<u8>> {
    call(|host| host.header_pairs(map))
}

/// The first value of a header.
pub fn header(map: Map, name: &[u8]) -> Result<Vec<u8>> {
    call(|host| host.header(map, name))
}

/// Adds a header, beside those of that name.
pub fn add_header(map: Map, name: &[u8], value: &[u8]) -> Result {
    call(|host| host.add_header(map, name, value))
}

/// Sets a header, in place of every value of it.
pub fn replace_header(map: Map, name: &[u8], value: &[u8]) -> Result {
    call(|host| host.replace_header(map, name, value))
}

/// Removes every value of a header.
pub fn remove_header(map: Map, name: &[u8]) -> Result {
    call(|host| host.remove_header(map, name))
}

/// Answers the stream.
pub fn send_response(status: u32, headers: &[(&[u8], &[u8])], body: &[u8]) -> Result {
    call(|host| host.send_response(status, headers, body))
}

/// Lets a request that waits go on.
pub fn continue_request() -> Result {
    call(|host| host.continue_request())
}

/// Sends a request; the answer comes with the token that is returned.
pub fn send_http_call(http: &HttpCall<'_>) -> Result<u32> {
    call(|host| host.send_http_call(http))
}

/// Sends a gRPC call; what comes of it comes with the token that is returned.
pub fn send_grpc_call(grpc: &GrpcCall<'_>) -> Result<u32> {
    call(|host| host.send_grpc_call(grpc))
}

/// A value that all workers share, and its version for [`set_shared_data`].
pub fn shared_data(key: &[u8]) -> Result<(Vec<u8>, u32)> {
    call(|host| host.shared_data(key))
}

/// Shares a value, if its version is still `version`; 0 for whatever it is.
pub fn set_shared_data(key: &[u8], value: &[u8], version: u32) -> Result {
    call(|host| host.set_shared_data(key, value, version))
}

impl Counter {
    /// Defines a counter, or finds the one with these labels.
    pub fn define(metric: &str, labels: &[(&str, &str)]) -> Result<Self> {
        call(|host| host.define_counter(metric, labels)).map(Self)
    }

    /// Adds to it.
    pub fn add(self, count: u64) {
        host(|host| host.add_to_counter(self.0, count));
    }
}
