//! What the host knows of one HTTP stream: both halves, what the filter may see of them now, and what went on.
//!
//! Only state; the order of callbacks is in [`super::run`].

use std::collections::{BTreeMap, VecDeque};

use crate::abi::Direction;
use crate::headers::{HeaderMap, Kind};
use crate::outcome::{LocalReply, Message, Outcome};

/// Something that arrives on one half.
pub(crate) enum Event {
    Headers { end: bool },
    Data { bytes: Vec<u8>, end: bool },
    Trailers(HeaderMap),
}

/// Why a half does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stop {
    #[default]
    No,
    /// At its headers: nothing further is shown to the filter until it continues.
    Headers,
    /// In its body: further data is shown together with what is buffered.
    Body,
    /// At its trailers.
    Trailers,
}

/// Request or response.
pub(crate) struct Half {
    pub headers: HeaderMap,
    pub trailers: Option<HeaderMap>,
    /// Body bytes that the filter holds or is shown.
    pub buffer: Vec<u8>,
    /// Body bytes that went on.
    pub forwarded: Vec<u8>,
    /// Whether the headers went on.
    pub headers_forwarded: bool,
    /// Envoy takes each of these away as soon as the filter lets it go.
    pub headers_visible: bool,
    pub trailers_visible: bool,
    pub body_visible: bool,
    /// The body callback runs that was told of the end, so that trailers may be added.
    pub body_ended: bool,
    pub events: VecDeque<Event>,
    pub stop: Stop,
    /// The filter called `proxy_continue_stream`.
    pub resume: bool,
    pub started: bool,
}

impl Half {
    fn new(kind: Kind) -> Self {
        Self {
            headers: HeaderMap::of(kind),
            trailers: None,
            buffer: Vec::new(),
            forwarded: Vec::new(),
            headers_forwarded: false,
            headers_visible: false,
            trailers_visible: false,
            body_visible: false,
            body_ended: false,
            events: VecDeque::new(),
            stop: Stop::No,
            resume: false,
            started: false,
        }
    }

    pub fn hide(&mut self) {
        self.headers_visible = false;
        self.trailers_visible = false;
        self.body_visible = false;
        self.body_ended = false;
    }

    /// Lets go what was held.
    pub fn release(&mut self) {
        self.headers_forwarded = true;
        self.stop = Stop::No;
        self.forwarded.append(&mut self.buffer);
        self.hide();
    }

    fn idle(&self) -> bool {
        self.started && self.events.is_empty() && self.stop == Stop::No
    }

    fn message(&self) -> Message {
        Message {
            headers: self.headers.clone(),
            body: self.forwarded.clone(),
            trailers: self.trailers.clone(),
        }
    }
}

/// A reply the filter asked for, before Envoy has made headers of it.
#[derive(Debug, Clone)]
pub(crate) struct ReplyRequest {
    pub status: u32,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub details: String,
    pub grpc_status: i32,
}

/// What filters leave for each other and for Envoy.
#[derive(Default)]
pub(crate) struct FilterState {
    /// Properties, by path.
    pub properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Envoy's own objects, by name.
    pub envoy: BTreeMap<String, Vec<u8>>,
}

pub(crate) struct StreamState {
    /// Whether the module has a context for it: not so where the VM was dead already.
    pub in_vm: bool,
    pub request: Half,
    pub response: Half,
    /// What the test set.
    pub properties: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the filter set.
    pub filter_state: FilterState,
    pub pending_reply: Option<ReplyRequest>,
    /// The response half carries a local reply with these details.
    pub local: Option<String>,
    /// A reply that the filter does not see.
    pub direct: Option<LocalReply>,
    pub reset: bool,
    pub logging: bool,
    pub route_cache_clears: u32,
}

impl StreamState {
    pub fn new() -> Self {
        Self {
            in_vm: false,
            request: Half::new(Kind::Request),
            response: Half::new(Kind::Response),
            properties: BTreeMap::new(),
            filter_state: FilterState::default(),
            pending_reply: None,
            local: None,
            direct: None,
            reset: false,
            logging: false,
            route_cache_clears: 0,
        }
    }

    pub fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// Which half is being worked on.
    pub fn direction(&self) -> Direction {
        if self.response.started { Direction::Response } else { Direction::Request }
    }

    pub fn is_over(&self) -> bool {
        self.reset || self.direct.is_some()
    }

    /// What became of the request.
    pub fn request_outcome(&self) -> Outcome {
        match self.end() {
            Some(outcome) => outcome,
            None if self.request.idle() => Outcome::Continue(self.request.message()),
            None => Outcome::Pause,
        }
    }

    /// What became of the response.
    pub fn response_outcome(&self) -> Outcome {
        match self.end() {
            Some(outcome) => outcome,
            None if self.response.idle() => Outcome::Continue(self.response.message()),
            None => Outcome::Pause,
        }
    }

    fn end(&self) -> Option<Outcome> {
        if self.reset {
            return Some(Outcome::Reset);
        }
        if let Some(reply) = &self.direct {
            return Some(Outcome::LocalReply(reply.clone()));
        }
        let details = self.local.clone()?;
        if !self.response.idle() {
            return Some(Outcome::Pause);
        }
        let Message { headers, body, .. } = self.response.message();
        let status = headers.text(":status").and_then(|status| status.parse().ok()).unwrap_or(0);
        Some(Outcome::LocalReply(LocalReply { status, headers, body, details }))
    }

    /// Makes of a reply what Envoy's `sendLocalReply` makes of it.
    pub fn render(&self, reply: ReplyRequest) -> LocalReply {
        let ReplyRequest { mut status, headers: own, mut body, details, grpc_status } = reply;
        let grpc = self
            .request
            .headers
            .text("content-type")
            .is_some_and(|kind| kind.starts_with("application/grpc"));
        let head = self.request.headers.get(":method") == Some(b"HEAD");
        let http_status = status;
        if grpc {
            status = 200;
        }
        let mut headers = HeaderMap::of(Kind::Response);
        headers.add(":status", status.to_string());
        headers.extend(own.iter());
        if grpc {
            headers.replace("content-type", "application/grpc");
            // What is no gRPC status (SDKs say -1) is none.
            let own = u32::try_from(grpc_status).ok().filter(|status| *status <= HIGHEST_GRPC_STATUS);
            let code = own.unwrap_or_else(|| grpc_code(http_status));
            headers.replace("grpc-status", code.to_string());
            if !body.is_empty() {
                headers.replace("grpc-message", percent_encoded(&body));
                body.clear();
            }
        } else if !body.is_empty() {
            headers.replace("content-length", body.len().to_string());
            if !headers.contains("content-type") {
                headers.add("content-type", "text/plain");
            }
            if head {
                body.clear();
            }
        }
        LocalReply { status: u16::try_from(status).unwrap_or(0), headers, body, details }
    }
}

/// `UNAUTHENTICATED`.
const HIGHEST_GRPC_STATUS: u32 = 16;

/// The gRPC status that stands for an HTTP status (gRPC's `http-grpc-status-mapping.md`).
fn grpc_code(status: u32) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// gRPC's `grpc-message` encoding: bytes outside of printable ASCII, and `%` itself, as `%XX`.
fn percent_encoded(bytes: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b' '..=b'~' if *byte != b'%' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}
