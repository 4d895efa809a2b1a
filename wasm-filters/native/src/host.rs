//! The calls of the filter, answered from Envoy's structures. One of these is one worker's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tollgate_filter_abi::{self as abi, GrpcCall, HttpCall, Map, Result, Status};
use tollgate_filter_core::grpc;

use crate::extension::{self, Answer, Queued, Request};
use crate::ffi::{self, Buffer, Handle, Header};
use crate::roots::Roots;
use crate::shared;
use crate::streams::Streams;
use crate::then::{Reply, Response, Then, owned};
use crate::worker::now;

/// What a worker's thread is to do next.
pub enum Event {
    /// A request is answered, or goes on.
    Reply(u32, Reply),
    /// A tick of a configuration.
    Tick(u32),
    /// A call ended; without an answer, it failed.
    Answer(u32, Option<Answer>),
}

/// Kind of a call under way.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    Http,
    Grpc,
}

/// One worker's side of the calls.
pub struct Host {
    worker: u32,
    /// What the filter is to be told next.
    pub inbox: VecDeque<Event>,
    /// The answer that the filter is being told of.
    pub answer: Option<Answer>,
    /// What is put off.
    pub then: Then,
    pub streams: Streams,
    pub roots: Roots,
    /// The context that calls are about.
    effective: u32,
    /// The configuration that is being taken.
    configuration: Arc<[u8]>,
    calls: BTreeMap<u32, Call>,
    last_token: u32,
    headers: Vec<Header>,
}

/// Writes to Envoy's log.
pub fn log_error(text: &str) {
    // SAFETY: Envoy reads the text.
    unsafe { ffi::envoy_dynamic_module_callback_log(ffi::LOG_ERROR, Buffer::of(text.as_bytes())) };
}

impl Host {
    /// Of a worker.
    pub fn new(worker: u32) -> Self {
        Self {
            worker,
            inbox: VecDeque::new(),
            answer: None,
            then: Then::default(),
            streams: Streams::default(),
            roots: Roots::default(),
            effective: 0,
            configuration: Arc::default(),
            calls: BTreeMap::new(),
            last_token: 0,
            headers: Vec::new(),
        }
    }

    /// Calls are about this context.
    pub fn enter(&mut self, context: u32) {
        self.effective = context;
    }

    /// A configuration is being taken.
    pub fn configure(&mut self, root: u32, json: &Arc<[u8]>) {
        self.configuration = Arc::clone(json);
        self.effective = root;
    }

    /// A call ended.
    pub fn take_call(&mut self, token: u32) -> Option<Call> {
        self.calls.remove(&token)
    }

    /// The filter starts over: its calls are of no interest any more.
    pub fn forget_calls(&mut self) {
        self.calls.clear();
        self.streams.forget_calls();
    }

    fn stream(&self) -> Result<Handle> {
        self.streams.handle(self.effective).ok_or(Status::NotFound)
    }

    fn attribute(&self, attribute: u32) -> Result<Vec<u8>> {
        let (envoy, mut value) = (self.stream()?, Buffer::EMPTY);
        // SAFETY: the stream is there, on this thread; Envoy writes `value`.
        let found = unsafe {
            ffi::envoy_dynamic_module_callback_http_filter_get_attribute_string(
                envoy,
                attribute,
                &raw mut value,
            )
        };
        // SAFETY: what was found is there until the hook ends.
        if found { Ok(unsafe { value.bytes() }.to_vec()) } else { Err(Status::Failed(0)) }
    }

    /// Whether the request has a route that leads to a cluster.
    fn has_cluster(&self) -> bool {
        let mut name = Buffer::EMPTY;
        // SAFETY: as above.
        self.stream().is_ok_and(|envoy| unsafe {
            ffi::envoy_dynamic_module_callback_http_get_cluster_name(envoy, &raw mut name)
        })
    }

    fn set(&mut self, map: Map, name: &[u8], value: Buffer) -> Result {
        let (envoy, map) = (self.stream()?, map_of(map)?);
        // SAFETY: the stream is there, on this thread; Envoy reads name and value.
        done(unsafe {
            ffi::envoy_dynamic_module_callback_http_set_header(envoy, map, Buffer::of(name), value)
        })
    }

    fn note_call(&mut self, call: Call) -> u32 {
        self.last_token = self.last_token.wrapping_add(1);
        self.calls.insert(self.last_token, call);
        self.last_token
    }

    /// Sends a request of the effective context.
    fn send(&mut self, call: Call, request: Request) -> Result<u32> {
        if self.roots.contains(self.effective) {
            let token = self.note_call(call);
            self.then.queued.push(Queued::Call { worker: self.worker, token, request });
            return Ok(token);
        }
        let envoy = self.stream()?;
        // SAFETY: the stream is there, on this thread.
        let id = unsafe { request.send(ffi::envoy_dynamic_module_callback_http_filter_http_callout, envoy) }?;
        let token = self.note_call(call);
        self.streams.add_call(self.effective, id, token);
        Ok(token)
    }
}

impl abi::Host for Host {
    fn current_time_nanos(&mut self) -> u64 {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    }

    fn log_error(&mut self, text: &str) {
        log_error(text);
    }

    fn set_tick_period(&mut self, period: Duration) {
        let root = self.streams.root(self.effective).unwrap_or(self.effective);
        self.then.wakes |= self.roots.tick_after(root, now(), period);
    }

    fn set_effective_context(&mut self, context: u32) -> Result {
        if self.roots.contains(context) || self.streams.handle(context).is_some() {
            self.effective = context;
            return Ok(());
        }
        Err(Status::NotFound)
    }

    fn property(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        match path {
            b"xds\0route_name" => match self.attribute(ffi::XDS_ROUTE_NAME).unwrap_or_default() {
                // No route, and the router answers 404; or one without a name and a cluster, which Envoy answers itself. One
                // without a name that leads to a cluster is passed by nobody. xds-server names all.
                name if name.is_empty() && !self.has_cluster() => Err(Status::NotFound),
                name => Ok(name),
            },
            b"source\0address" => self.attribute(ffi::SOURCE_ADDRESS),
            _ => Err(Status::NotFound),
        }
    }

    fn configuration(&mut self, size: usize) -> Result<Vec<u8>> {
        Ok(self.configuration.get(..size).unwrap_or(&self.configuration).to_vec())
    }

    fn call_body(&mut self, max: usize) -> Result<Vec<u8>> {
        let body = &self.answer.as_ref().ok_or(Status::NotFound)?.body;
        Ok(body.get(..max).unwrap_or(body).to_vec())
    }

    fn header_pairs(&mut self, map: Map) -> Result<Vec<u8>> {
        let (envoy, map) = (self.stream()?, map_of(map)?);
        // SAFETY: the stream is there, on this thread.
        let size = unsafe { ffi::envoy_dynamic_module_callback_http_get_headers_size(envoy, map) };
        self.headers.clear();
        self.headers.resize(size, Header { name: Buffer::EMPTY, value: Buffer::EMPTY });
        // SAFETY: the same, and there is room for as many as there are.
        let headers = self.headers.as_mut_ptr();
        done(unsafe { ffi::envoy_dynamic_module_callback_http_get_headers(envoy, map, headers) })?;
        // SAFETY: names and values are there until something is set.
        let pair = |header: &Header| unsafe { (header.name.bytes(), header.value.bytes()) };
        Ok(abi::serialize(self.headers.iter().map(pair)))
    }

    fn header(&mut self, map: Map, name: &[u8]) -> Result<Vec<u8>> {
        if map == Map::CallResponse {
            let headers = &self.answer.as_ref().ok_or(Status::NotFound)?.headers;
            let value = headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone());
            return value.ok_or(Status::NotFound);
        }
        let (envoy, map, mut value) = (self.stream()?, map_of(map)?, Buffer::EMPTY);
        // SAFETY: the stream is there, on this thread; Envoy reads the name and writes `value`.
        let found = unsafe {
            let name = Buffer::of(name);
            ffi::envoy_dynamic_module_callback_http_get_header(
                envoy,
                map,
                name,
                &raw mut value,
                0,
                std::ptr::null_mut(),
            )
        };
        // SAFETY: what was found is there until something is set.
        if found { Ok(unsafe { value.bytes() }.to_vec()) } else { Err(Status::NotFound) }
    }

    fn add_header(&mut self, map: Map, name: &[u8], value: &[u8]) -> Result {
        let (envoy, map) = (self.stream()?, map_of(map)?);
        // SAFETY: as in `set`.
        done(unsafe {
            let (name, value) = (Buffer::of(name), Buffer::of(value));
            ffi::envoy_dynamic_module_callback_http_add_header(envoy, map, name, value)
        })
    }

    fn replace_header(&mut self, map: Map, name: &[u8], value: &[u8]) -> Result {
        self.set(map, name, Buffer::of(value))
    }

    fn remove_header(&mut self, map: Map, name: &[u8]) -> Result {
        self.set(map, name, Buffer::EMPTY)
    }

    fn send_response(&mut self, status: u32, headers: &[(&[u8], &[u8])], body: &[u8]) -> Result {
        self.stream()?;
        let mut response = Response::new(status, headers, body);
        if self.header(Map::Request, b"content-type").is_ok_and(|value| grpc::is_request(&value)) {
            // Envoy would say that all went well.
            response.add("grpc-status", grpc::status_of(status));
        }
        self.then.replies.push((self.effective, Reply::Respond(response)));
        Ok(())
    }

    fn continue_request(&mut self) -> Result {
        self.stream()?;
        self.then.replies.push((self.effective, Reply::Continue));
        Ok(())
    }

    fn send_http_call(&mut self, call: &HttpCall<'_>) -> Result<u32> {
        let request = Request {
            cluster: call.cluster.to_owned(),
            headers: owned(call.headers),
            body: call.body.to_vec(),
            timeout: call.timeout,
        };
        self.send(Call::Http, request)
    }

    fn send_grpc_call(&mut self, call: &GrpcCall<'_>) -> Result<u32> {
        let path = format!("/{}/{}", call.service, call.method);
        let headers: [(&[u8], &[u8]); 6] = [
            (b":method", b"POST"),
            (b":path", path.as_bytes()),
            (b":authority", call.authority.as_bytes()),
            (b":scheme", b"http"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ];
        let body = grpc::frame(call.message).ok_or(Status::Failed(0))?;
        let cluster = call.cluster.to_owned();
        self.send(Call::Grpc, Request { cluster, headers: owned(&headers), body, timeout: call.timeout })
    }

    fn shared_data(&mut self, key: &[u8]) -> Result<(Vec<u8>, u32)> {
        shared::get(key)
    }

    fn set_shared_data(&mut self, key: &[u8], value: &[u8], version: u32) -> Result {
        shared::set(key, value, version)
    }

    fn define_counter(&mut self, metric: &str, labels: &[(&str, &str)]) -> Result<u32> {
        extension::counter(metric, labels)
    }

    fn add_to_counter(&mut self, counter: u32, count: u64) {
        self.then.queued.push(Queued::Count(counter, count));
    }
}

fn map_of(map: Map) -> Result<u32> {
    match map {
        Map::Request => Ok(ffi::REQUEST_HEADERS),
        Map::Response => Ok(ffi::RESPONSE_HEADERS),
        Map::CallResponse => Err(Status::Failed(0)),
    }
}

fn done(done: bool) -> Result {
    if done { Ok(()) } else { Err(Status::Failed(0)) }
}
