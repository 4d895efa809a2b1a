//! The order of stream callbacks, and what each return value does, as Envoy's filter manager has it.

use super::Vm;
use super::stream::{Event, ReplyRequest, Stop, StreamState};
use crate::abi::Direction;
use crate::headers::HeaderMap;
use crate::plugin::spec::FailurePolicy;

/// What a callback returned, as far as the host tells it apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Continue,
    Pause,
    /// Paused, but for the body.
    PauseHeaders,
    /// Paused, and the data it was shown is dropped.
    Discard,
    /// The VM is dead, and the plugin fails closed.
    Failed,
}

impl Vm {
    /// Makes a context for a stream whose request is in `stream`, and runs it.
    pub fn open_stream(&mut self, mut stream: StreamState) -> u32 {
        let state = self.state_mut();
        let context = state.new_context();
        let root = state.root;
        stream.in_vm = self.failed_at().is_none();
        self.state_mut().streams.insert(context, stream);
        if let Some(function) = self.exports.on_context_create.clone() {
            self.enter("proxy_on_context_create", context, &function, (context, root));
        }
        self.run_stream(context);
        self.drive();
        self.set_trap_outcome(context);
        context
    }

    /// Adds to one half of a stream, and runs it.
    pub fn feed(
        &mut self,
        context: u32,
        direction: Direction,
        events: impl IntoIterator<Item = Event>,
    ) -> bool {
        let Some(stream) = self.state_mut().streams.get_mut(&context) else { return false };
        let half = stream.half(direction);
        half.started = true;
        half.events.extend(events);
        self.run_stream(context);
        self.drive();
        self.set_trap_outcome(context);
        true
    }

    /// Ends a stream: `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`, in the order Envoy calls them.
    pub fn close_stream(&mut self, context: u32) -> Option<StreamState> {
        let stream = self.state_mut().streams.get_mut(&context)?;
        if stream.in_vm {
            stream.logging = true;
            if let Some(function) = self.exports.on_log.clone() {
                self.enter("proxy_on_log", context, &function, context);
            }
            if let Some(stream) = self.state_mut().streams.get_mut(&context) {
                stream.logging = false;
                stream.request.hide();
                stream.response.hide();
            }
            if let Some(function) = self.exports.on_done.clone() {
                self.enter("proxy_on_done", context, &function, context);
            }
            if let Some(function) = self.exports.on_delete.clone() {
                self.enter("proxy_on_delete", context, &function, context);
            }
        }
        self.drive();
        self.state_mut().streams.remove(&context)
    }

    /// Runs a stream until it waits for something.
    pub(super) fn run_stream(&mut self, context: u32) {
        while self.step(context) {}
    }

    fn step(&mut self, context: u32) -> bool {
        let Some(stream) = self.state_mut().streams.get_mut(&context) else { return false };
        if stream.is_over() {
            return false;
        }
        if let Some(reply) = stream.pending_reply.take() {
            start_reply(stream, reply);
            return true;
        }
        let direction = stream.direction();
        let half = stream.half(direction);
        if std::mem::take(&mut half.resume) && half.stop != Stop::No {
            half.release();
            return true;
        }
        if half.stop == Stop::Headers || half.stop == Stop::Trailers {
            return false;
        }
        match half.events.pop_front() {
            None => false,
            Some(event) => {
                self.deliver(context, direction, event);
                true
            }
        }
    }

    fn deliver(&mut self, context: u32, direction: Direction, event: Event) {
        let Some(stream) = self.state_mut().streams.get_mut(&context) else { return };
        let half = stream.half(direction);
        let verdict = match event {
            Event::Headers { end } => {
                half.headers_visible = true;
                let count = half.headers.len() as u32;
                let (name, function) = self.exports.headers(direction);
                self.ask(context, name, function, (context, count, u32::from(end)))
            }
            Event::Data { mut bytes, end } => {
                half.buffer.append(&mut bytes);
                half.body_visible = true;
                half.body_ended = end;
                let size = half.buffer.len() as u32;
                let (name, function) = self.exports.body(direction);
                let verdict = self.ask(context, name, function, (context, size, u32::from(end)));
                self.settle_half(context, direction, verdict, Stop::Body);
                return;
            }
            Event::Trailers(trailers) => {
                let count = trailers.len() as u32;
                half.trailers = Some(trailers);
                half.trailers_visible = true;
                let (name, function) = self.exports.trailers(direction);
                let verdict = self.ask(context, name, function, (context, count));
                self.settle_half(context, direction, verdict, Stop::Trailers);
                return;
            }
        };
        // Where the headers alone are held, the body is shown as one that is held is.
        let stop = if verdict == Verdict::PauseHeaders { Stop::Body } else { Stop::Headers };
        self.settle_half(context, direction, verdict, stop);
    }

    fn ask<P: wasmtime::WasmParams>(
        &mut self,
        context: u32,
        name: &'static str,
        function: Option<wasmtime::TypedFunc<P, u32>>,
        params: P,
    ) -> Verdict {
        let failed = || match self.state().spec.failure_policy {
            FailurePolicy::FailOpen => Verdict::Continue,
            FailurePolicy::FailClosed | FailurePolicy::FailReload => Verdict::Failed,
        };
        if self.failed_at.is_some() {
            return failed();
        }
        let Some(function) = function else { return Verdict::Continue };
        match self.enter(name, context, &function, params) {
            // Headers know no 2, and what a module returns that Envoy doesn't know continues.
            Some(0) => Verdict::Continue,
            Some(2) if name.ends_with("headers") => Verdict::Continue,
            Some(1) if name.ends_with("headers") && self.state().spec.stop_headers_alone => {
                Verdict::PauseHeaders
            }
            Some(number) if name.ends_with("body") && number >= 3 => Verdict::Discard,
            Some(_) => Verdict::Pause,
            None => match self.state().spec.failure_policy {
                FailurePolicy::FailOpen => Verdict::Continue,
                FailurePolicy::FailClosed | FailurePolicy::FailReload => Verdict::Failed,
            },
        }
    }

    fn settle_half(&mut self, context: u32, direction: Direction, verdict: Verdict, stop: Stop) {
        let Some(stream) = self.state_mut().streams.get_mut(&context) else { return };
        if verdict == Verdict::Failed {
            fail_stream(stream);
            return;
        }
        // A reply stops the iteration whatever the callback returned.
        let replied = stream.pending_reply.is_some();
        let half = stream.half(direction);
        // Continuing and then pausing continues: Envoy does the first before it looks at the second.
        let resumed = std::mem::take(&mut half.resume);
        match verdict {
            Verdict::Continue if !replied => half.release(),
            _ if resumed && !replied => half.release(),
            Verdict::Discard => {
                half.buffer.clear();
                half.stop = stop;
            }
            _ => half.stop = stop,
        }
    }
}

/// Sends the reply through the filter's response callbacks, or past them where a response is under way already.
fn start_reply(stream: &mut StreamState, reply: ReplyRequest) {
    let rendered = stream.render(reply);
    if stream.response.headers_forwarded {
        stream.reset = true;
    } else if stream.response.started {
        stream.direct = Some(rendered);
    } else {
        stream.request.events.clear();
        let half = &mut stream.response;
        half.started = true;
        half.headers = rendered.headers;
        let end = rendered.body.is_empty();
        half.events.push_back(Event::Headers { end });
        if !end {
            half.events.push_back(Event::Data { bytes: rendered.body, end: true });
        }
        stream.local = Some(rendered.details);
    }
}

/// What a dead VM does to a stream: 503, or a reset where the client has headers already.
fn fail_stream(stream: &mut StreamState) {
    if stream.response.headers_forwarded {
        stream.reset = true;
        return;
    }
    stream.direct = Some(stream.render(ReplyRequest {
        status: 503,
        headers: HeaderMap::new(),
        body: Vec::new(),
        details: "wasm_fail_stream".to_string(),
        grpc_status: 14,
    }));
}
