//! Host calls, in safe shapes. Bytes go in and out as they are: header values can hold any.

use std::time::Duration;

use super::memory::Slot;
use super::raw;
use crate::types::{self, Counter, GrpcCall, HttpCall, Map, Result, Status};

/// Whether an answer still comes when the plugin that made the call is gone.
pub const CALLS_OUTLIVE_PLUGINS: bool = false;

fn done(status: u32) -> Result {
    match status {
        0 => Ok(()),
        1 => Err(Status::NotFound),
        8 => Err(Status::CasMismatch),
        other => Err(Status::Failed(other)),
    }
}

const CALL_RESPONSE_BODY: u32 = 4;
const GRPC_RECEIVE_BUFFER: u32 = 5;
const PLUGIN_CONFIGURATION: u32 = 7;
const LOG_ERROR: u32 = 4;
const REQUEST_STREAM: u32 = 0;
const NO_GRPC_STATUS: i32 = -1;

/// Nanoseconds since the epoch; 0 where the host does not tell.
pub fn current_time_nanos() -> u64 {
    let mut time = 0;
    // SAFETY: the host writes eight bytes to `time`.
    unsafe { raw::proxy_get_current_time_nanoseconds(&raw mut time) };
    time
}

/// Writes to the proxy's log.
pub fn log_error(text: &str) {
    // SAFETY: the host reads `text`.
    unsafe { raw::proxy_log(LOG_ERROR, text.as_ptr(), text.len()) };
}

/// Has the root context ticked so often.
pub fn set_tick_period(period: Duration) {
    let period = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
    // SAFETY: no memory is passed.
    unsafe { raw::proxy_set_tick_period_milliseconds(period) };
}

/// Makes host calls be about `context`.
pub fn set_effective_context(context: u32) -> Result {
    // SAFETY: no memory is passed.
    done(unsafe { raw::proxy_set_effective_context(context) })
}

/// Whether there is such a context. Host calls are about it then.
pub fn exists(context: u32) -> bool {
    set_effective_context(context).is_ok()
}

/// A property by its path, segments with a NUL between.
pub fn property(path: &[u8]) -> Result<Vec<u8>> {
    let mut value = Slot::new();
    // SAFETY: the host reads `path` and fills the slot.
    done(unsafe { raw::proxy_get_property(path.as_ptr(), path.len(), value.data(), value.size()) })?;
    Ok(value.take())
}

/// The plugin configuration of `size` bytes, while configuring.
pub fn configuration(size: usize) -> Result<Vec<u8>> {
    buffer(PLUGIN_CONFIGURATION, size)
}

/// The first `max` bytes of the body of a call's response.
pub fn http_call_body(max: usize) -> Result<Vec<u8>> {
    buffer(CALL_RESPONSE_BODY, max)
}

/// The first `max` bytes of a gRPC response.
pub fn grpc_message(max: usize) -> Result<Vec<u8>> {
    buffer(GRPC_RECEIVE_BUFFER, max)
}

fn buffer(buffer: u32, max: usize) -> Result<Vec<u8>> {
    let mut data = Slot::new();
    // SAFETY: the host fills the slot.
    done(unsafe { raw::proxy_get_buffer_bytes(buffer, 0, max, data.data(), data.size()) })?;
    Ok(data.take())
}

/// All headers, serialized: a count, the sizes of each name and value, then these with a NUL after each.
pub fn header_pairs(map: Map) -> Result<Vec<u8>> {
    let mut data = Slot::new();
    // SAFETY: the host fills the slot.
    done(unsafe { raw::proxy_get_header_map_pairs(map as u32, data.data(), data.size()) })?;
    Ok(data.take())
}

/// The first value of a header.
pub fn header(map: Map, name: &[u8]) -> Result<Vec<u8>> {
    let mut value = Slot::new();
    // SAFETY: the host reads `name` and fills the slot.
    done(unsafe {
        raw::proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), value.data(), value.size())
    })?;
    Ok(value.take())
}

/// Adds a header, beside those of that name.
pub fn add_header(map: Map, name: &[u8], value: &[u8]) -> Result {
    // SAFETY: the host reads both.
    done(unsafe {
        raw::proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// Sets a header, in place of every value of it.
pub fn replace_header(map: Map, name: &[u8], value: &[u8]) -> Result {
    // SAFETY: the host reads both.
    done(unsafe {
        raw::proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    })
}

/// Removes every value of a header.
pub fn remove_header(map: Map, name: &[u8]) -> Result {
    // SAFETY: the host reads `name`.
    done(unsafe { raw::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Answers the stream.
pub fn send_response(status: u32, headers: &[(&[u8], &[u8])], body: &[u8]) -> Result {
    let headers = serialize(headers);
    // SAFETY: the host reads body and headers; the details are empty.
    done(unsafe {
        raw::proxy_send_local_response(
            status,
            std::ptr::null(),
            0,
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        )
    })
}

/// Lets a request that waits go on.
pub fn continue_request() -> Result {
    // SAFETY: no memory is passed.
    done(unsafe { raw::proxy_continue_stream(REQUEST_STREAM) })
}

/// Sends a request; the answer comes with the token that is returned.
pub fn send_http_call(call: &HttpCall<'_>) -> Result<u32> {
    let (headers, trailers) = (serialize(call.headers), serialize(&[]));
    let timeout = u32::try_from(call.timeout.as_millis()).unwrap_or(u32::MAX);
    let mut token = 0;
    // SAFETY: the host reads what it is passed, and writes four bytes to `token`.
    done(unsafe {
        raw::proxy_http_call(
            call.cluster.as_ptr(),
            call.cluster.len(),
            headers.as_ptr(),
            headers.len(),
            call.body.as_ptr(),
            call.body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout,
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// Sends a gRPC call; what comes of it comes with the token that is returned.
pub fn send_grpc_call(call: &GrpcCall<'_>) -> Result<u32> {
    let metadata = serialize(&[]);
    let timeout = u32::try_from(call.timeout.as_millis()).unwrap_or(u32::MAX);
    let mut token = 0;
    // SAFETY: the host reads what it is passed, and writes four bytes to `token`.
    done(unsafe {
        raw::proxy_grpc_call(
            call.upstream.as_ptr(),
            call.upstream.len(),
            call.service.as_ptr(),
            call.service.len(),
            call.method.as_ptr(),
            call.method.len(),
            metadata.as_ptr(),
            metadata.len(),
            call.message.as_ptr(),
            call.message.len(),
            timeout,
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// A value that all workers share, and its version for [`set_shared_data`].
pub fn shared_data(key: &[u8]) -> Result<(Vec<u8>, u32)> {
    let (mut value, mut version) = (Slot::new(), 0);
    // SAFETY: the host reads `key`, fills the slot, and writes four bytes to `version`.
    done(unsafe {
        raw::proxy_get_shared_data(key.as_ptr(), key.len(), value.data(), value.size(), &raw mut version)
    })?;
    Ok((value.take(), version))
}

/// Shares a value, if its version is still `version`; 0 for whatever it is.
pub fn set_shared_data(key: &[u8], value: &[u8], version: u32) -> Result {
    // SAFETY: the host reads both.
    done(unsafe { raw::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version) })
}

/// Calls a function of the proxy's own.
pub fn call_foreign_function(name: &str, arguments: &[u8]) -> Result<Vec<u8>> {
    let mut result = Slot::new();
    // SAFETY: the host reads name and arguments, and fills the slot.
    done(unsafe {
        raw::proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            result.data(),
            result.size(),
        )
    })?;
    Ok(result.take())
}

impl Counter {
    /// Defines a counter. Envoy shows it as `wasmcustom.METRIC.LABEL.VALUE`, as it names metrics with labels of its own,
    /// so that the `stats_tags` of a bootstrap can take the labels out again. Each definition takes memory there for good.
    pub fn define(metric: &str, labels: &[(&str, &str)]) -> Result<Self> {
        let mut name = metric.to_owned();
        for (label, value) in labels {
            name.extend([".", label, ".", value]);
        }
        let mut id = 0;
        // SAFETY: the host reads `name`, and writes four bytes to `id`. Kind 0 is a counter.
        done(unsafe { raw::proxy_define_metric(0, name.as_ptr(), name.len(), &raw mut id) })?;
        Ok(Self(id))
    }

    /// Adds to it.
    pub fn add(self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        // SAFETY: no memory is passed.
        unsafe { raw::proxy_increment_metric(self.0, count) };
    }
}

fn serialize(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    types::serialize(pairs.iter().copied())
}
