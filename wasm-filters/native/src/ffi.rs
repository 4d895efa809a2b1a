//! What Envoy's `source/extensions/dynamic_modules/abi/abi.h` (1.40, ABI v0.2.0) declares, as much of it as is used.
//!
//! A handle of Envoy's is an opaque pointer. Bytes are a pointer and a size; those of Envoy's live until the hook that
//! they were read in ends, or until something is set.

use std::ffi::c_void;

/// The ABI that this module is written for.
pub const ABI_VERSION: &std::ffi::CStr = c"v0.2.0";

/// `log_level_Error`
pub const LOG_ERROR: u32 = 4;

/// `http_header_type_*`
pub const REQUEST_HEADERS: u32 = 0;
/// The same.
pub const RESPONSE_HEADERS: u32 = 2;

/// `attribute_id_SourceAddress`
pub const SOURCE_ADDRESS: u32 = 24;
/// `attribute_id_XdsRouteName`
pub const XDS_ROUTE_NAME: u32 = 61;

/// `on_http_filter_request_headers_status_*`
pub const CONTINUE: u32 = 0;
/// Nothing goes on, and the body waits at the client when the buffer is full.
pub const STOP_ALL_ITERATION_AND_WATERMARK: u32 = 4;

/// Bytes of Envoy's or of ours.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    pub data: *const u8,
    pub size: usize,
}

impl Buffer {
    /// None.
    pub const EMPTY: Self = Self { data: std::ptr::null(), size: 0 };

    /// Those bytes, for as long as they are borrowed.
    pub fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), size: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    /// They must be there for as long as `'a`.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.data.is_null() || self.size == 0 {
            return &[];
        }
        // SAFETY: not null, and the caller says that they are there.
        unsafe { std::slice::from_raw_parts(self.data, self.size) }
    }
}

/// A header of Envoy's or of ours.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub name: Buffer,
    pub value: Buffer,
}

impl Header {
    /// That header, for as long as it is borrowed.
    pub fn of((name, value): &(Vec<u8>, Vec<u8>)) -> Self {
        Self { name: Buffer::of(name), value: Buffer::of(value) }
    }
}

/// An object of Envoy's; the name of the parameter says which.
pub type Handle = *mut c_void;

/// A function that sends a request: for what, the number of the call, cluster, headers and how many, body, milliseconds.
pub type HttpCallout =
    unsafe extern "C" fn(Handle, *mut u64, Buffer, *const Header, usize, Buffer, u64) -> u32;

unsafe extern "C" {
    pub fn envoy_dynamic_module_callback_log(level: u32, message: Buffer);
    pub fn envoy_dynamic_module_callback_get_concurrency() -> u32;

    pub fn envoy_dynamic_module_callback_bootstrap_extension_config_define_counter(
        extension: Handle,
        name: Buffer,
        labels: *const Buffer,
        labels_size: usize,
        id: *mut usize,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_bootstrap_extension_config_increment_counter(
        extension: Handle,
        id: usize,
        values: *const Buffer,
        values_size: usize,
        by: u64,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_bootstrap_extension_http_callout(
        extension: Handle,
        id: *mut u64,
        cluster: Buffer,
        headers: *const Header,
        headers_size: usize,
        body: Buffer,
        timeout_ms: u64,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_new(
        extension: Handle,
    ) -> Handle;
    pub fn envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_commit(
        scheduler: Handle,
        event: u64,
    );
    pub fn envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete(scheduler: Handle);
    pub fn envoy_dynamic_module_callback_bootstrap_extension_timer_new(extension: Handle) -> Handle;
    pub fn envoy_dynamic_module_callback_bootstrap_extension_timer_enable(timer: Handle, delay_ms: u64);
    pub fn envoy_dynamic_module_callback_bootstrap_extension_timer_delete(timer: Handle);
    pub fn envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(extension: Handle);

    pub fn envoy_dynamic_module_callback_http_filter_get_worker_index(filter: Handle) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        filter: Handle,
        attribute: u32,
        value: *mut Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_get_cluster_name(filter: Handle, name: *mut Buffer) -> bool;
    pub fn envoy_dynamic_module_callback_http_get_header(
        filter: Handle,
        map: u32,
        name: Buffer,
        value: *mut Buffer,
        index: usize,
        count: *mut usize,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_get_headers_size(filter: Handle, map: u32) -> usize;
    pub fn envoy_dynamic_module_callback_http_get_headers(
        filter: Handle,
        map: u32,
        headers: *mut Header,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_add_header(
        filter: Handle,
        map: u32,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_set_header(
        filter: Handle,
        map: u32,
        name: Buffer,
        value: Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_send_response(
        filter: Handle,
        status: u32,
        headers: *const Header,
        headers_size: usize,
        body: Buffer,
        details: Buffer,
    );
    pub fn envoy_dynamic_module_callback_http_filter_continue_decoding(filter: Handle);
    pub fn envoy_dynamic_module_callback_http_filter_http_callout(
        filter: Handle,
        id: *mut u64,
        cluster: Buffer,
        headers: *const Header,
        headers_size: usize,
        body: Buffer,
        timeout_ms: u64,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_scheduler_new(filter: Handle) -> Handle;
    pub fn envoy_dynamic_module_callback_http_filter_scheduler_commit(scheduler: Handle, event: u64);
    pub fn envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler: Handle);
}
