//! The callbacks a module exports. All are optional, as in Envoy; a wrong signature is an error.

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use super::state::VmState;
use crate::abi::Direction;
use crate::error::Error;

/// Exports that give the host a place for its results, in the order in which Envoy tries them. The specification has
/// them the other way round.
pub(crate) const ALLOCATORS: [&str; 2] = ["malloc", "proxy_on_memory_allocate"];

type One<R = ()> = Option<TypedFunc<u32, R>>;
type Two<R = ()> = Option<TypedFunc<(u32, u32), R>>;
type Five = Option<TypedFunc<(u32, u32, u32, u32, u32), ()>>;
type Three<R = ()> = Option<TypedFunc<(u32, u32, u32), R>>;

pub(super) struct Exports {
    /// `_initialize`, or `_start`.
    pub entry: Option<(&'static str, TypedFunc<(), ()>)>,
    /// Called after `_initialize`; what these return is ignored.
    pub main: Two<u32>,
    pub main_void: Option<TypedFunc<(), u32>>,
    pub on_context_create: Two,
    pub on_vm_start: Two<u32>,
    pub on_configure: Two<u32>,
    pub on_tick: One,
    pub on_queue_ready: Two,
    pub on_done: One<u32>,
    pub on_log: One,
    pub on_delete: One,
    pub on_new_connection: One<u32>,
    pub on_downstream_data: Three<u32>,
    pub on_downstream_connection_close: Two,
    pub on_upstream_data: Three<u32>,
    pub on_upstream_connection_close: Two,
    pub on_foreign_function: Three,
    request_headers: Three<u32>,
    request_body: Three<u32>,
    request_trailers: Two<u32>,
    response_headers: Three<u32>,
    response_body: Three<u32>,
    response_trailers: Two<u32>,
    pub on_http_call_response: Five,
    pub on_grpc_receive_initial_metadata: Three,
    pub on_grpc_receive: Three,
    pub on_grpc_receive_trailing_metadata: Three,
    pub on_grpc_close: Three,
}

impl Exports {
    pub fn find(instance: &Instance, store: &mut Store<VmState>) -> Result<Self, Error> {
        let mut find = Finder { instance, store };
        if !ALLOCATORS.iter().any(|name| find.has(name)) {
            return Err(Error::NoAllocator);
        }
        let (entry, main, main_void) = match find.typed("_initialize")? {
            Some(function) => {
                (Some(("_initialize", function)), find.typed("main")?, find.typed("__main_void")?)
            }
            None => (find.typed("_start")?.map(|function| ("_start", function)), None, None),
        };
        Ok(Self {
            entry,
            main,
            main_void,
            on_context_create: find.typed("proxy_on_context_create")?,
            on_vm_start: find.typed("proxy_on_vm_start")?,
            on_configure: find.typed("proxy_on_configure")?,
            on_tick: find.typed("proxy_on_tick")?,
            on_queue_ready: find.typed("proxy_on_queue_ready")?,
            on_done: find.typed("proxy_on_done")?,
            on_log: find.typed("proxy_on_log")?,
            on_delete: find.typed("proxy_on_delete")?,
            on_new_connection: find.typed("proxy_on_new_connection")?,
            on_downstream_data: find.typed("proxy_on_downstream_data")?,
            on_downstream_connection_close: find.typed("proxy_on_downstream_connection_close")?,
            on_upstream_data: find.typed("proxy_on_upstream_data")?,
            on_upstream_connection_close: find.typed("proxy_on_upstream_connection_close")?,
            on_foreign_function: find.typed("proxy_on_foreign_function")?,
            request_headers: find.typed("proxy_on_request_headers")?,
            request_body: find.typed("proxy_on_request_body")?,
            request_trailers: find.typed("proxy_on_request_trailers")?,
            response_headers: find.typed("proxy_on_response_headers")?,
            response_body: find.typed("proxy_on_response_body")?,
            response_trailers: find.typed("proxy_on_response_trailers")?,
            on_http_call_response: find.typed("proxy_on_http_call_response")?,
            on_grpc_receive_initial_metadata: find.typed("proxy_on_grpc_receive_initial_metadata")?,
            on_grpc_receive: find.typed("proxy_on_grpc_receive")?,
            on_grpc_receive_trailing_metadata: find.typed("proxy_on_grpc_receive_trailing_metadata")?,
            on_grpc_close: find.typed("proxy_on_grpc_close")?,
        })
    }

    pub fn headers(&self, direction: Direction) -> (&'static str, Three<u32>) {
        match direction {
            Direction::Request => ("proxy_on_request_headers", self.request_headers.clone()),
            Direction::Response => ("proxy_on_response_headers", self.response_headers.clone()),
        }
    }

    pub fn body(&self, direction: Direction) -> (&'static str, Three<u32>) {
        match direction {
            Direction::Request => ("proxy_on_request_body", self.request_body.clone()),
            Direction::Response => ("proxy_on_response_body", self.response_body.clone()),
        }
    }

    pub fn trailers(&self, direction: Direction) -> (&'static str, Two<u32>) {
        match direction {
            Direction::Request => ("proxy_on_request_trailers", self.request_trailers.clone()),
            Direction::Response => ("proxy_on_response_trailers", self.response_trailers.clone()),
        }
    }
}

struct Finder<'a> {
    instance: &'a Instance,
    store: &'a mut Store<VmState>,
}

impl Finder<'_> {
    fn has(&mut self, name: &str) -> bool {
        self.instance.get_func(&mut *self.store, name).is_some()
    }

    fn typed<P: WasmParams, R: WasmResults>(&mut self, name: &str) -> Result<Option<TypedFunc<P, R>>, Error> {
        let Some(function) = self.instance.get_func(&mut *self.store, name) else { return Ok(None) };
        function
            .typed(&*self.store)
            .map(Some)
            .map_err(|error| Error::Export { name: name.to_string(), problem: format!("{error:#}") })
    }
}
