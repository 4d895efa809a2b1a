//! Callouts that wait for an answer, and the answers Envoy can give.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::error::Error;
use crate::headers::{HeaderMap, Kind};
use crate::logs::VmName;
use crate::shared::Shared;
use crate::vm::Vm;
use crate::vm::answer::{GrpcEvent, synthetic};
use crate::vm::state::{GrpcCall, HttpCall, VmState};

/// An HTTP request that a filter sent to a cluster.
pub struct Callout {
    shared: Rc<Shared>,
    vm: Rc<RefCell<Vm>>,
    token: u32,
    /// Who sent it.
    pub owner: Owner,
    /// The cluster it goes to.
    pub cluster: String,
    /// Its headers, with the `content-length` that Envoy adds.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: HeaderMap,
    /// How long the filter waits; the clock's advance past it answers 504.
    pub time_limit: Option<Duration>,
}

/// Which context of a module sent a callout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Which VM.
    pub vm: VmName,
    /// The stream's context; `None` for the root.
    pub stream: Option<u32>,
    /// Whether that stream is finished: the SDK will drop the answer.
    pub gone: bool,
}

impl Owner {
    fn of(state: &VmState, context: u32) -> Self {
        let stream = (context != state.root).then_some(context);
        Self { vm: state.name, stream, gone: !state.has_context(context) }
    }
}

impl Callout {
    pub(crate) fn pending(shared: &Rc<Shared>, vm: &Rc<RefCell<Vm>>, owner: Option<u32>) -> Vec<Self> {
        let Ok(borrowed) = vm.try_borrow() else { return Vec::new() };
        let state = borrowed.state();
        let calls = state.http_calls.iter().filter(|(_, call)| owner.is_none_or(|owner| owner == call.owner));
        let calls = calls.map(|(token, call)| {
            let owner = Owner::of(state, call.owner);
            let HttpCall { cluster, headers, body, trailers, time_limit, .. } = call.clone();
            let (shared, vm, token) = (shared.clone(), vm.clone(), *token);
            Self { shared, vm, token, owner, cluster, headers, body, trailers, time_limit }
        });
        calls.collect()
    }

    /// The upstream answers.
    ///
    /// # Errors
    ///
    /// The module trapped, or the callout is no longer pending.
    pub fn reply(
        self,
        status: u16,
        headers: impl Into<HeaderMap>,
        body: impl Into<Vec<u8>>,
    ) -> Result<(), Error> {
        let mut answer = HeaderMap::of(Kind::Response);
        answer.add(":status", status.to_string());
        answer.extend(headers.into().iter());
        self.reply_with(answer, body.into(), HeaderMap::new())
    }

    /// The upstream answers, with trailers and headers as given (none is added, not even `:status`).
    ///
    /// # Errors
    ///
    /// As [`Self::reply`].
    pub fn reply_with(self, headers: HeaderMap, body: Vec<u8>, trailers: HeaderMap) -> Result<(), Error> {
        self.answer(Some((headers, body, trailers)))
    }

    /// The host is dead: Envoy makes up a 503.
    ///
    /// # Errors
    ///
    /// As [`Self::reply`].
    pub fn fail(self) -> Result<(), Error> {
        let body = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
        self.answer(Some(synthetic(503, body)))
    }

    /// The time is up: Envoy makes up a 504.
    ///
    /// # Errors
    ///
    /// As [`Self::reply`].
    pub fn time_out(self) -> Result<(), Error> {
        self.answer(Some(synthetic(504, "upstream request timeout")))
    }

    /// The connection broke in the middle of the answer: the module is told of no headers at all.
    ///
    /// # Errors
    ///
    /// As [`Self::reply`].
    pub fn reset(self) -> Result<(), Error> {
        self.answer(None)
    }

    fn answer(self, answer: Option<(HeaderMap, Vec<u8>, HeaderMap)>) -> Result<(), Error> {
        self.shared.with(&self.vm, |vm| vm.answer_http(self.token, answer))
    }
}

/// A gRPC call or stream that a filter opened.
pub struct GrpcCallout {
    shared: Rc<Shared>,
    vm: Rc<RefCell<Vm>>,
    token: u32,
    /// Who opened it.
    pub owner: Owner,
    /// The cluster it goes to.
    pub cluster: String,
    /// Full name of the service.
    pub service: String,
    /// Name of the method.
    pub method: String,
    /// Initial metadata.
    pub metadata: HeaderMap,
    /// Messages sent so far; a call has one.
    pub messages: Vec<Vec<u8>>,
    /// Whether it is a stream.
    pub streaming: bool,
    /// Whether the filter has closed its side.
    pub half_closed: bool,
}

impl GrpcCallout {
    pub(crate) fn pending(shared: &Rc<Shared>, vm: &Rc<RefCell<Vm>>, owner: Option<u32>) -> Vec<Self> {
        let Ok(borrowed) = vm.try_borrow() else { return Vec::new() };
        let state = borrowed.state();
        let calls = state.grpc_calls.iter().filter(|(_, call)| owner.is_none_or(|owner| owner == call.owner));
        let calls = calls.map(|(token, call)| {
            let owner = Owner::of(state, call.owner);
            let GrpcCall { cluster, service, method, metadata, messages, streaming, local_closed, .. } =
                call.clone();
            let (shared, vm, token) = (shared.clone(), vm.clone(), *token);
            let half_closed = local_closed;
            Self {
                shared,
                vm,
                token,
                owner,
                cluster,
                service,
                method,
                metadata,
                messages,
                streaming,
                half_closed,
            }
        });
        calls.collect()
    }

    /// Initial metadata arrives (streams only: the SDK gives it to nobody on a call).
    ///
    /// # Errors
    ///
    /// The module trapped, or the call is no longer open.
    pub fn initial_metadata(&self, metadata: impl Into<HeaderMap>) -> Result<(), Error> {
        self.answer(GrpcEvent::InitialMetadata(metadata.into()))
    }

    /// A message arrives; on a call it is the answer, and ends it.
    ///
    /// # Errors
    ///
    /// As [`Self::initial_metadata`].
    pub fn message(&self, message: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.answer(GrpcEvent::Message(message.into()))
    }

    /// Trailing metadata arrives.
    ///
    /// # Errors
    ///
    /// As [`Self::initial_metadata`].
    pub fn trailing_metadata(&self, metadata: impl Into<HeaderMap>) -> Result<(), Error> {
        self.answer(GrpcEvent::TrailingMetadata(metadata.into()))
    }

    /// It ends with a status (0 is OK).
    ///
    /// # Errors
    ///
    /// As [`Self::initial_metadata`].
    pub fn close(self, status: u32, message: &str) -> Result<(), Error> {
        self.answer(GrpcEvent::Close(status, message.to_string()))
    }

    /// The host is dead: a stream is told of metadata that Envoy makes up, and then, like a call, that it is closed as
    /// `UNAVAILABLE`.
    ///
    /// # Errors
    ///
    /// As [`Self::initial_metadata`].
    pub fn fail(self) -> Result<(), Error> {
        const MESSAGE: &str = "upstream connect error or disconnect/reset before headers. reset reason: \
            remote connection failure{upstream_reset_before_response_started{remote_connection_failure|\
            delayed_connect_error:_Connection_refused}}";
        if self.streaming {
            self.initial_metadata(HeaderMap::new())?;
            self.trailing_metadata([
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", "14"),
                ("grpc-message", MESSAGE),
            ])?;
        }
        self.close(14, MESSAGE)
    }

    fn answer(&self, event: GrpcEvent) -> Result<(), Error> {
        self.shared.with(&self.vm, |vm| vm.answer_grpc(self.token, event))
    }
}
