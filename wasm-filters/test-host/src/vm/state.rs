//! What host functions can reach: one VM's contexts, callouts and metrics, and the host behind it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::abi::{Direction, MetricKind};
use crate::headers::HeaderMap;
use crate::logs::{LogLine, VmName};
use crate::plugin::spec::Spec;
use crate::shared::Shared;
use crate::vm::connection::ConnectionState;
use crate::vm::stream::{FilterState, ReplyRequest, StreamState};

/// Something that Envoy does only when the callback has returned.
pub(crate) enum Action {
    Continue(u32, Direction),
    Reply(u32, ReplyRequest),
    Reset(u32),
    ContinueReading(u32),
    CloseConnection(u32),
}

/// An HTTP request that the module sent.
#[derive(Debug, Clone)]
pub(crate) struct HttpCall {
    pub owner: u32,
    pub cluster: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    pub time_limit: Option<Duration>,
    pub deadline: Option<u64>,
}

/// A unary call or a stream that the module opened.
#[derive(Debug, Clone)]
pub(crate) struct GrpcCall {
    pub owner: u32,
    pub streaming: bool,
    pub cluster: String,
    pub service: String,
    pub method: String,
    pub metadata: HeaderMap,
    /// The request; on a stream, what was sent so far.
    pub messages: Vec<Vec<u8>>,
    pub local_closed: bool,
    pub deadline: Option<u64>,
}

/// An answer to a callout, while the module is told of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub http: Option<(HeaderMap, Vec<u8>, HeaderMap)>,
    pub grpc_initial: Option<HeaderMap>,
    pub grpc_trailing: Option<HeaderMap>,
    pub grpc_message: Option<Vec<u8>>,
    pub status: (u32, String),
    /// Of a foreign callback.
    pub arguments: Vec<u8>,
}

#[derive(Clone, Copy)]
pub(crate) struct Tick {
    pub period: u64,
    pub next: u64,
}

/// How much memory the module may have, and whether it wanted more.
pub(crate) struct MemoryLimit {
    pub bytes: usize,
    pub refused: Option<usize>,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.bytes;
        if !allowed {
            self.refused = Some(desired);
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

pub(crate) struct VmState {
    pub shared: Rc<Shared>,
    pub spec: Rc<Spec>,
    pub logs: Rc<RefCell<Vec<LogLine>>>,
    pub name: VmName,
    pub serial: u64,
    pub root: u32,
    /// The context whose callback runs.
    pub current: u32,
    /// The context that the module named instead; 0 for none.
    pub effective: u32,
    pub last_context: u32,
    pub streams: BTreeMap<u32, StreamState>,
    pub connections: BTreeMap<u32, ConnectionState>,
    /// Properties that were declared, and whether they can be set only once.
    pub declared: BTreeMap<Vec<u8>, bool>,
    /// The plugin's configuration can be read in `proxy_on_configure` only.
    pub configuring: bool,
    /// `_initialize` and `main` run, from which few host functions can be called.
    pub starting: bool,
    pub memory: MemoryLimit,
    /// The root said that it is not done yet.
    pub root_pending: bool,
    pub root_done: bool,
    pub actions: Vec<Action>,
    pub tick: Option<Tick>,
    pub http_calls: BTreeMap<u32, HttpCall>,
    pub grpc_calls: BTreeMap<u32, GrpcCall>,
    pub tokens: Tokens,
    pub received: Received,
    pub metrics: HashMap<u32, (MetricKind, String)>,
    pub random: u64,
    /// Entries into the VM and calls out of it, by name, since somebody took them.
    pub calls: BTreeMap<&'static str, u64>,
}

impl VmState {
    pub fn new(shared: &Rc<Shared>, spec: &Rc<Spec>, logs: &Rc<RefCell<Vec<LogLine>>>, name: VmName) -> Self {
        let serial = shared.next_serial();
        Self {
            shared: shared.clone(),
            spec: spec.clone(),
            logs: logs.clone(),
            name,
            serial,
            root: 0,
            current: 0,
            effective: 0,
            last_context: 0,
            streams: BTreeMap::new(),
            connections: BTreeMap::new(),
            declared: BTreeMap::new(),
            configuring: false,
            starting: false,
            memory: MemoryLimit { bytes: shared.memory.get(), refused: None },
            root_pending: false,
            root_done: false,
            actions: Vec::new(),
            tick: None,
            http_calls: BTreeMap::new(),
            grpc_calls: BTreeMap::new(),
            tokens: Tokens::default(),
            received: Received::default(),
            metrics: HashMap::new(),
            random: serial,
            calls: BTreeMap::new(),
        }
    }

    /// Counts a callback or a host call.
    pub fn count(&mut self, name: &'static str) {
        *self.calls.entry(name).or_default() += 1;
    }

    pub fn new_context(&mut self) -> u32 {
        self.last_context += 1;
        self.last_context
    }

    /// The context that host calls are about.
    pub fn context(&self) -> u32 {
        if self.has_context(self.effective) { self.effective } else { self.current }
    }

    pub fn has_context(&self, id: u32) -> bool {
        id != 0 && (id == self.root || self.streams.contains_key(&id) || self.connections.contains_key(&id))
    }

    pub fn stream(&mut self) -> Option<&mut StreamState> {
        let id = self.context();
        self.streams.get_mut(&id)
    }

    /// What the stream or connection carries beside its data.
    pub fn filter_state(&mut self) -> Option<&mut FilterState> {
        let id = self.context();
        let of_stream = self.streams.get_mut(&id).map(|stream| &mut stream.filter_state);
        of_stream.or_else(|| self.connections.get_mut(&id).map(|connection| &mut connection.filter_state))
    }

    /// A deadline from a limit in milliseconds, where 0 is none.
    pub fn deadline(&self, milliseconds: u32) -> Option<u64> {
        let limit = u64::from(milliseconds) * 1_000_000;
        (limit > 0).then(|| self.shared.elapsed.get().saturating_add(limit))
    }
}

/// Numbers for callouts and metrics. The two low bits say the kind, as in Envoy.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<(bool, u32), u32>);

impl Tokens {
    pub const HTTP_CALL: u32 = 0;
    pub const GRPC_CALL: u32 = 1;
    pub const GRPC_STREAM: u32 = 2;

    pub fn callout(&mut self, kind: u32) -> u32 {
        self.next(false, kind)
    }

    pub fn metric(&mut self, kind: MetricKind) -> u32 {
        self.next(true, kind as u32)
    }

    fn next(&mut self, metric: bool, kind: u32) -> u32 {
        let last = self.0.entry((metric, kind)).or_insert(kind);
        *last += 4;
        *last
    }
}
