//! What became of a request or a response: plain data for assertions.

use crate::headers::HeaderMap;

/// What the filter did with one half of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on to the next filter, with what this one made of it.
    Continue(Message),
    /// The filter holds it. Its pending calls are in [`Stream::callouts`](crate::Stream::callouts).
    Pause,
    /// The client gets this reply and the upstream nothing.
    LocalReply(LocalReply),
    /// The client's stream was reset without a reply.
    Reset,
}

impl Outcome {
    /// The message that went on.
    pub fn forwarded(&self) -> Option<&Message> {
        match self {
            Self::Continue(message) => Some(message),
            _ => None,
        }
    }

    /// The reply that the filter or the host made.
    pub fn local_reply(&self) -> Option<&LocalReply> {
        match self {
            Self::LocalReply(reply) => Some(reply),
            _ => None,
        }
    }

    /// Whether the filter holds it.
    pub fn is_paused(&self) -> bool {
        *self == Self::Pause
    }
}

/// One request or response as it leaves the filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Headers, pseudo headers first.
    pub headers: HeaderMap,
    /// Body bytes let through so far.
    pub body: Vec<u8>,
    /// Trailers, where there are any.
    pub trailers: Option<HeaderMap>,
}

/// A reply that never saw an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// `:status`; 200 on a gRPC request, whose own status is in `grpc-status`.
    pub status: u16,
    /// All headers, with what Envoy adds (`content-length`, `content-type`) and what the filter's response callbacks
    /// made of them.
    pub headers: HeaderMap,
    /// Empty for HEAD and gRPC requests.
    pub body: Vec<u8>,
    /// Goes to `%RESPONSE_CODE_DETAILS%`; `wasm_fail_stream` when the VM is dead.
    pub details: String,
}
