//! One HTTP stream in a test's hand.

use std::cell::RefCell;
use std::rc::Rc;

use crate::abi::Direction;
use crate::callout::{Callout, GrpcCallout};
use crate::error::Error;
use crate::headers::{HeaderMap, Kind};
use crate::outcome::Outcome;
use crate::request::{ResponseBuilder, chunk};
use crate::shared::Shared;
use crate::vm::Vm;
use crate::vm::stream::{Event, StreamState};

/// A stream that was sent into a filter. Dropping it finishes it.
pub struct Stream {
    shared: Rc<Shared>,
    vm: Rc<RefCell<Vm>>,
    context: u32,
    /// What is left of it after it was finished.
    finished: Option<StreamState>,
}

impl Stream {
    pub(crate) fn new(shared: Rc<Shared>, vm: Rc<RefCell<Vm>>, context: u32) -> Self {
        Self { shared, vm, context, finished: None }
    }

    /// What became of the request so far.
    pub fn outcome(&self) -> Outcome {
        self.look(StreamState::request_outcome).unwrap_or(Outcome::Reset)
    }

    /// What became of the response so far.
    pub fn response_outcome(&self) -> Outcome {
        self.look(StreamState::response_outcome).unwrap_or(Outcome::Reset)
    }

    /// Sends more of a request that was left open.
    ///
    /// # Errors
    ///
    /// The module trapped, or the stream is finished.
    pub fn send_body(&mut self, bytes: impl Into<Vec<u8>>, end: bool) -> Result<Outcome, Error> {
        let (direction, events) = chunk(bytes.into(), end);
        self.feed(direction, events)?;
        Ok(self.outcome())
    }

    /// Prepares the upstream's response.
    pub fn response(&mut self, headers: impl Into<HeaderMap>) -> ResponseBuilder<'_> {
        ResponseBuilder::new(self, headers.into())
    }

    /// HTTP callouts that this stream made and that wait for an answer.
    pub fn callouts(&self) -> Vec<Callout> {
        Callout::pending(&self.shared, &self.vm, Some(self.context))
    }

    /// The oldest of them.
    pub fn callout(&self) -> Option<Callout> {
        self.callouts().into_iter().next()
    }

    /// gRPC calls and streams that this stream opened.
    pub fn grpc_callouts(&self) -> Vec<GrpcCallout> {
        GrpcCallout::pending(&self.shared, &self.vm, Some(self.context))
    }

    /// A property as the filter would read it back: one that it set, or that the test set.
    pub fn property(&self, segments: impl IntoIterator<Item = impl AsRef<str>>) -> Option<Vec<u8>> {
        let path = crate::path(segments);
        self.look(|stream| {
            stream.filter_state.properties.get(&path).or_else(|| stream.properties.get(&path)).cloned()
        })
        .flatten()
    }

    /// An object that the filter left for Envoy with `set_envoy_filter_state`, such as `envoy.tcp_proxy.cluster`.
    pub fn filter_state(&self, name: &str) -> Option<Vec<u8>> {
        self.look(|stream| stream.filter_state.envoy.get(name).cloned()).flatten()
    }

    /// How often the filter asked for the route to be chosen again.
    pub fn route_cache_clears(&self) -> u32 {
        self.look(|stream| stream.route_cache_clears).unwrap_or_default()
    }

    /// Number of its context in the module.
    pub fn context_id(&self) -> u32 {
        self.context
    }

    /// Ends it: `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`. Its callouts are not cancelled, as Envoy cancels
    /// none; but the module has nobody left to give the answers to.
    ///
    /// # Errors
    ///
    /// The module trapped.
    pub fn finish(&mut self) -> Result<(), Error> {
        if self.finished.is_some() {
            return Ok(());
        }
        let context = self.context;
        let mut left = None;
        let result = self.shared.with(&self.vm, |vm| {
            left = vm.close_stream(context);
            Ok(())
        });
        self.finished = left;
        result
    }

    pub(crate) fn set_response(&mut self, headers: HeaderMap, events: Vec<Event>) -> Result<(), Error> {
        {
            let mut vm = self.vm.try_borrow_mut().map_err(|_| Error::Busy)?;
            let stream = vm.state_mut().streams.get_mut(&self.context).ok_or(Error::Finished)?;
            // Nothing comes back from an upstream that never got the request.
            if stream.is_over() || stream.local.is_some() {
                return Ok(());
            }
            let status = stream.half(Direction::Response);
            status.headers = headers.into_kind(Kind::Response);
        }
        self.feed(Direction::Response, events)
    }

    fn feed(&mut self, direction: Direction, events: impl IntoIterator<Item = Event>) -> Result<(), Error> {
        let context = self.context;
        self.shared
            .with(&self.vm, |vm| vm.feed(context, direction, events).then_some(()).ok_or(Error::Finished))
    }

    fn look<T>(&self, look: impl FnOnce(&StreamState) -> T) -> Option<T> {
        if let Some(stream) = &self.finished {
            return Some(look(stream));
        }
        self.vm.try_borrow().ok()?.state().streams.get(&self.context).map(look)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A trap on the way is kept in `Plugin::traps`.
        let _ = self.finish();
    }
}
