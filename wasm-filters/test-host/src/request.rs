//! What a test says before a request or a response is sent.

use std::collections::BTreeMap;

use crate::abi::Direction;
use crate::error::Error;
use crate::headers::{HeaderMap, Kind};
use crate::outcome::Outcome;
use crate::path;
use crate::stream::Stream;
use crate::vm::stream::{Event, StreamState};
use crate::worker::Worker;

/// A request that has not been sent.
#[must_use]
pub struct RequestBuilder<'a> {
    worker: &'a Worker,
    message: Draft,
    properties: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'a> RequestBuilder<'a> {
    pub(crate) fn new(worker: &'a Worker, headers: HeaderMap) -> Self {
        Self { worker, message: Draft::new(headers), properties: BTreeMap::new() }
    }

    /// Adds a header: any bytes, and the same name as often as wanted.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.message.headers.add(name, value);
        self
    }

    /// Sets a property of this stream, such as `["xds", "route_name"]` or `["source", "address"]`.
    pub fn property(
        mut self,
        segments: impl IntoIterator<Item = impl AsRef<str>>,
        value: impl AsRef<[u8]>,
    ) -> Self {
        self.properties.insert(path(segments), value.as_ref().to_vec());
        self
    }

    /// Adds body bytes; each call is one chunk, as the codec may cut it.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.message.chunks.push(bytes.into());
        self
    }

    /// Adds a trailer.
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.message.trailer(name, value);
        self
    }

    /// Leaves the request open, for [`Stream::send_body`].
    pub fn keep_open(mut self) -> Self {
        self.message.open = true;
        self
    }

    /// Sends it through the filter as far as the filter lets it.
    ///
    /// # Errors
    ///
    /// The module trapped; what the client got then is in the trap. On a VM that was dead before, the stream gets its
    /// 503 without an error.
    pub fn send(mut self) -> Result<Stream, Error> {
        let vm = self.worker.vm_for_stream()?;
        let has_body = !self.message.chunks.is_empty();
        for (name, value) in [
            (":authority", "test.example"),
            (":path", "/"),
            (":method", if has_body { "POST" } else { "GET" }),
            (":scheme", "https"),
        ] {
            if !self.message.headers.contains(name) {
                self.message.headers.add(name, value);
            }
        }
        let mut state = StreamState::new();
        state.properties = self.properties;
        state.request.headers = std::mem::take(&mut self.message.headers).into_kind(Kind::Request);
        state.request.started = true;
        state.request.events = self.message.events().into();
        let shared = self.worker.shared.clone();
        let context = shared.with(&vm, |vm| Ok(vm.open_stream(state)))?;
        Ok(Stream::new(shared, vm, context))
    }
}

/// A response from the upstream that has not been sent.
#[must_use]
pub struct ResponseBuilder<'a> {
    stream: &'a mut Stream,
    message: Draft,
}

impl<'a> ResponseBuilder<'a> {
    pub(crate) fn new(stream: &'a mut Stream, headers: HeaderMap) -> Self {
        Self { stream, message: Draft::new(headers) }
    }

    /// Adds a header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.message.headers.add(name, value);
        self
    }

    /// Adds body bytes; each call is one chunk.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.message.chunks.push(bytes.into());
        self
    }

    /// Adds a trailer.
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.message.trailer(name, value);
        self
    }

    /// Sends it through the filter as far as the filter lets it. `:status` is 200 where it is missing.
    ///
    /// # Errors
    ///
    /// The module trapped, or the stream is finished.
    pub fn send(mut self) -> Result<Outcome, Error> {
        if !self.message.headers.contains(":status") {
            self.message.headers.add(":status", "200");
        }
        let headers = std::mem::take(&mut self.message.headers).into_kind(Kind::Response);
        self.stream.set_response(headers, self.message.events())?;
        Ok(self.stream.response_outcome())
    }
}

/// What both kinds of message are made of.
struct Draft {
    headers: HeaderMap,
    chunks: Vec<Vec<u8>>,
    trailers: Option<HeaderMap>,
    open: bool,
}

impl Draft {
    fn new(headers: HeaderMap) -> Self {
        Self { headers, chunks: Vec::new(), trailers: None, open: false }
    }

    fn trailer(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.trailers.get_or_insert_default().add(name, value);
    }

    /// What the filter manager sees: the end of a body comes as an empty chunk of its own, as HTTP/1 has it.
    fn events(self) -> Vec<Event> {
        let end = self.chunks.is_empty() && self.trailers.is_none() && !self.open;
        let mut events = vec![Event::Headers { end }];
        let has_body = !self.chunks.is_empty();
        events.extend(self.chunks.into_iter().map(|bytes| Event::Data { bytes, end: false }));
        match self.trailers {
            Some(trailers) => events.push(Event::Trailers(trailers)),
            None if has_body && !self.open => events.push(Event::Data { bytes: Vec::new(), end: true }),
            None => {}
        }
        events
    }
}

/// The half a chunk goes to.
pub(crate) fn chunk(bytes: Vec<u8>, end: bool) -> (Direction, [Event; 1]) {
    (Direction::Request, [Event::Data { bytes, end }])
}
