//! What a proxy calls: the trait that a filter implements, and the macro that exports it.

/// Whether a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// It does.
    Continue = 0,
    /// It waits; its body and trailers wait with it. Envoy sends nothing on until it is continued or answered.
    Pause = 1,
}

/// One VM. Contexts are numbers: of a plugin's configuration (`root`), or of a stream. The end of one is not told, which
/// would cost every stream an entry into the VM: [`crate::exists`] says whether it is there.
pub trait Module: Default {
    /// Takes a configuration of `size` bytes; `false` refuses it.
    fn configure(&mut self, root: u32, size: usize) -> bool;
    /// The period of `set_tick_period` went by, of a plugin's context.
    fn tick(&mut self, root: u32);
    /// A request's headers are here, of a stream under `root`; `None` where the proxy made another stream since.
    fn request_headers(&mut self, root: Option<u32>, stream: u32) -> Action;
    /// A response's headers are here. Only where exported.
    fn response_headers(&mut self, stream: u32);
    /// A call ended; without headers, it failed.
    fn http_call_response(&mut self, token: u32, headers: usize, body_size: usize);
    /// A gRPC call was answered with `size` bytes (`Some`), or failed. Only where exported.
    fn grpc_response(&mut self, _token: u32, _size: Option<usize>) {}
}

/// Exports a [`Module`] to the proxy: `export!(Filter)`, or `export!(Filter, response_headers)` where responses matter,
/// or `export!(Filter, response_headers, grpc)` where it makes gRPC calls, too.
/// Nothing else is exported, as each exported callback costs every stream an entry into the VM.
#[cfg(target_family = "wasm")]
#[macro_export]
macro_rules! export {
    ($module:ty, response_headers, grpc) => {
        $crate::export!($module, response_headers);

        #[allow(unsafe_code)]
        mod exported_grpc {
            use $crate::Module as _;

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_grpc_receive(_context: u32, token: u32, size: usize) {
                super::exported::with(|module| module.grpc_response(token, Some(size)));
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_grpc_close(_context: u32, token: u32, _status: u32) {
                super::exported::with(|module| module.grpc_response(token, None));
            }
        }
    };
    ($module:ty, response_headers) => {
        $crate::export!($module);

        #[allow(unsafe_code)]
        mod exported_response_headers {
            use $crate::Module as _;

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_response_headers(stream: u32, _headers: usize, _end: u32) -> u32 {
                super::exported::with(|module| module.response_headers(stream));
                $crate::Action::Continue as u32
            }
        }
    };
    ($module:ty) => {
        #[allow(unsafe_code)]
        mod exported {
            use std::cell::{Cell, RefCell};

            use $crate::Module as _;

            thread_local! {
                static MODULE: RefCell<$module> = RefCell::default();
                // The stream that was made last, and its root. The proxy makes a stream's context and hands it the
                // request's headers at once, so this needs no table.
                static LAST: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
            }

            pub(super) fn with<T>(call: impl FnOnce(&mut $module) -> T) -> T {
                MODULE.with_borrow_mut(call)
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_abi_version_0_2_1() {}

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
                $crate::memory::allocate(size)
            }

            #[unsafe(no_mangle)]
            extern "C" fn _initialize() {
                std::panic::set_hook(Box::new(|panic| $crate::log_error(&panic.to_string())));
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_context_create(context: u32, root: u32) {
                LAST.set((context, root));
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_configure(root: u32, size: usize) -> u32 {
                u32::from(with(|module| module.configure(root, size)))
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_tick(root: u32) {
                with(|module| module.tick(root));
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_request_headers(stream: u32, _headers: usize, _end: u32) -> u32 {
                let root = Some(LAST.get()).filter(|(last, _)| *last == stream).map(|(_, root)| root);
                with(|module| module.request_headers(root, stream)) as u32
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_http_call_response(
                _context: u32,
                token: u32,
                headers: usize,
                body_size: usize,
                _trailers: usize,
            ) {
                with(|module| module.http_call_response(token, headers, body_size));
            }
        }
    };
}
