//! What Envoy calls. Each takes handles apart and hands over to the worker, or to the extension.
//!
//! Envoy keeps one pointer a stream for us, so that pointer is no pointer, but the numbers of worker, configuration and
//! stream: nothing is allocated, and nothing can dangle.

use std::ffi::{c_char, c_void};

use crate::extension::{self, Answer};
use crate::ffi::{self, Buffer, Handle, Header};
use crate::host::log_error;
use crate::then::Response;
use crate::worker::{ROOT_BITS, Worker};

/// A number in a pointer's place.
type Number = *const c_void;

const STREAM_BITS: u32 = u32::BITS;

/// Which stream, of which configuration, on which worker.
#[derive(Clone, Copy)]
struct Stream {
    worker: u32,
    root: u32,
    stream: u32,
}

impl Stream {
    fn number(self) -> Number {
        let number = u64::from(self.worker) << (STREAM_BITS + ROOT_BITS)
            | u64::from(self.root) << STREAM_BITS
            | u64::from(self.stream);
        std::ptr::without_provenance(number as usize)
    }

    /// `None` is what [`envoy_dynamic_module_on_http_filter_new`] says where there is no worker.
    fn of(number: Number) -> Option<(&'static Worker, Self)> {
        let number = Some(number.addr() as u64).filter(|number| *number != 0)?;
        let stream = Self {
            worker: (number >> (STREAM_BITS + ROOT_BITS)) as u32,
            root: (number >> STREAM_BITS) as u32 & ((1 << ROOT_BITS) - 1),
            stream: number as u32,
        };
        Worker::get(stream.worker).map(|worker| (worker, stream))
    }
}

/// Reads what a call brought; `None` where it failed.
///
/// # Safety
/// `headers` and `body` must be that many.
unsafe fn answer(
    result: u32,
    (headers, headers_size): (*const Header, usize),
    (body, body_size): (*const Buffer, usize),
) -> Option<Answer> {
    if result != 0 || headers.is_null() {
        return None;
    }
    // SAFETY: the caller says so, and Envoy's bytes are there until the hook ends.
    let (headers, body) = unsafe {
        let chunks: &[Buffer] =
            if body.is_null() { &[] } else { std::slice::from_raw_parts(body, body_size) };
        let headers = std::slice::from_raw_parts(headers, headers_size).iter();
        let headers = headers.map(|header| (header.name.bytes().to_vec(), header.value.bytes().to_vec()));
        (headers.collect(), chunks.iter().flat_map(|chunk| chunk.bytes()).copied().collect())
    };
    Some(Answer { headers, body })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    std::panic::set_hook(Box::new(|panic| log_error(&format!("tollgate gateway: {panic}"))));
    // SAFETY: this is the main thread.
    Worker::make(unsafe { ffi::envoy_dynamic_module_callback_get_concurrency() });
    ffi::ABI_VERSION.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    _config: Handle,
    _name: Buffer,
    json: Buffer,
) -> Number {
    if !extension::is_there() {
        log_error(
            "tollgate gateway: native filters need this module as a bootstrap extension, too: start Envoy with what \
             envoy-configs/native.yaml has",
        );
        return std::ptr::null();
    }
    // SAFETY: the bytes are there until the hook ends.
    let root = Worker::configure(unsafe { json.bytes() });
    root.map_or(std::ptr::null(), |root| std::ptr::without_provenance(root as usize))
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(root: Number) {
    Worker::forget(root.addr() as u32);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(root: Number, envoy: Handle) -> Number {
    // SAFETY: the stream is being made.
    let worker = unsafe { ffi::envoy_dynamic_module_callback_http_filter_get_worker_index(envoy) };
    let root = root.addr() as u32;
    Worker::get(worker)
        .map_or(std::ptr::null(), |it| Stream { worker, root, stream: it.new_stream() }.number())
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    envoy: Handle,
    stream: Number,
    _end: bool,
) -> u32 {
    match Stream::of(stream) {
        Some((worker, stream)) => worker.request_headers(stream.stream, stream.root, envoy),
        None => {
            Response::unavailable().send(envoy);
            ffi::STOP_ALL_ITERATION_AND_WATERMARK
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    _envoy: Handle,
    stream: Number,
    _end: bool,
) -> u32 {
    if let Some((worker, stream)) = Stream::of(stream) {
        worker.response_headers(stream.stream);
    }
    ffi::CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(stream: Number) {
    if let Some((worker, stream)) = Stream::of(stream) {
        worker.destroy(stream.stream);
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(_envoy: Handle, stream: Number, _event: u64) {
    if let Some((worker, _)) = Stream::of(stream) {
        worker.scheduled();
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_http_callout_done(
    _envoy: Handle,
    stream: Number,
    id: u64,
    result: u32,
    headers: *const Header,
    headers_size: usize,
    body: *const Buffer,
    body_size: usize,
) {
    if let Some((worker, stream)) = Stream::of(stream) {
        // SAFETY: they are that many.
        let answer = unsafe { answer(result, (headers, headers_size), (body, body_size)) };
        worker.stream_answered(stream.stream, id, answer);
    }
}

/// The extension's own number: there is one of it.
const EXTENSION: Number = std::ptr::without_provenance(1);

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
    envoy: Handle,
    _name: Buffer,
    _config: Buffer,
) -> Number {
    extension::start(envoy);
    EXTENSION
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new(_config: Number, _envoy: Handle) -> Number {
    EXTENSION
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_server_initialized(
    _envoy: Handle,
    _extension: Number,
) {
    extension::initialized();
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_scheduled(
    _envoy: Handle,
    _config: Number,
    _event: u64,
) {
    extension::work();
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_timer_fired(
    _envoy: Handle,
    _config: Number,
    _timer: Handle,
) {
    extension::work();
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_http_callout_done(
    _envoy: Handle,
    _config: Number,
    id: u64,
    result: u32,
    headers: *const Header,
    headers_size: usize,
    body: *const Buffer,
    body_size: usize,
) {
    // SAFETY: they are that many.
    let answer = unsafe { answer(result, (headers, headers_size), (body, body_size)) };
    extension::answered(id, answer);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
    _envoy: Handle,
    _extension: Number,
    done: Option<unsafe extern "C" fn(*mut c_void)>,
    context: *mut c_void,
) {
    extension::stop();
    if let Some(done) = done {
        // SAFETY: Envoy wants it called with that, once.
        unsafe { done(context) };
    }
}

/// Hooks that Envoy wants to be there, and of which nothing is to be said.
macro_rules! ignored {
    ($($hook:ident($($argument:ty),*) $(-> $status:ident)?;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $hook($(_: $argument),*) $(-> ignored!(type $status))? {
                $(ffi::$status)?
            }
        )*
    };
    (type $status:ident) => { u32 };
}

ignored! {
    envoy_dynamic_module_on_http_filter_request_body(Handle, Number, bool) -> CONTINUE;
    envoy_dynamic_module_on_http_filter_request_trailers(Handle, Number) -> CONTINUE;
    envoy_dynamic_module_on_http_filter_response_body(Handle, Number, bool) -> CONTINUE;
    envoy_dynamic_module_on_http_filter_response_trailers(Handle, Number) -> CONTINUE;
    envoy_dynamic_module_on_http_filter_stream_complete(Handle, Number);
    envoy_dynamic_module_on_http_filter_http_stream_headers(Handle, Number, u64, *const Header, usize, bool);
    envoy_dynamic_module_on_http_filter_http_stream_data(Handle, Number, u64, *const Buffer, usize, bool);
    envoy_dynamic_module_on_http_filter_http_stream_trailers(Handle, Number, u64, *const Header, usize);
    envoy_dynamic_module_on_http_filter_http_stream_complete(Handle, Number, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(Handle, Number, u64, u32);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(Handle, Number);
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(Handle, Number);
    envoy_dynamic_module_on_bootstrap_extension_config_destroy(Number);
    envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized(Handle, Number);
    envoy_dynamic_module_on_bootstrap_extension_destroy(Number);
    envoy_dynamic_module_on_bootstrap_extension_drain_started(Handle, Number);
    envoy_dynamic_module_on_bootstrap_extension_file_changed(Handle, Number, Buffer, u32);
    envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update(Handle, Number, Buffer);
    envoy_dynamic_module_on_bootstrap_extension_cluster_removal(Handle, Number, Buffer);
    envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update(Handle, Number, Buffer);
    envoy_dynamic_module_on_bootstrap_extension_listener_removal(Handle, Number, Buffer);
}

/// No admin page of ours is registered.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_admin_request(
    _envoy: Handle,
    _config: Number,
    _method: Buffer,
    _path: Buffer,
    _body: Buffer,
) -> u32 {
    404
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_which_stream_it_is_and_none_is_none() {
        Worker::make(1 << 10);
        for (worker, root, stream) in [(0, 1, 1 << 31), (7, 42, u32::MAX), (1023, (1 << 22) - 1, 1 << 31 | 5)]
        {
            let (_, of) = Stream::of(Stream { worker, root, stream }.number()).unwrap();
            assert_eq!((of.worker, of.root, of.stream), (worker, root, stream));
        }
        assert!(Stream::of(std::ptr::null()).is_none());
    }
}
