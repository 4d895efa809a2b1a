//! Numbers of the proxy-wasm ABI 0.2.1: statuses, kinds of map, buffer, stream and metric.
//!
//! The numbers, and which functions there are; what these do is in [`crate::hostcalls`] and [`crate::vm`].

mod callbacks;
mod functions;

pub use callbacks::{CALLBACKS, Callback};
pub use functions::{Answer, HOST_FUNCTIONS, HostFunction};

/// How much of a function or callback is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// All of it, as in Envoy.
    Full,
    /// What is said here.
    Partly(&'static str),
    /// It links and answers as in Envoy, where it does nothing either.
    Answers(Answer),
    /// It does not link, or is not called; why.
    Refused(&'static str),
}

/// What a host function returns (`proxy_status_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Nothing by that name.
    NotFound = 1,
    /// An argument is out of range, or the call makes no sense now.
    BadArgument = 2,
    /// The result cannot be serialized.
    SerializationFailure = 3,
    /// The argument cannot be parsed.
    ParseFailure = 4,
    /// A pointer or length is outside of the module's memory.
    InvalidMemoryAccess = 6,
    /// The queue is empty.
    Empty = 7,
    /// Somebody else wrote first.
    CasMismatch = 8,
    /// The host could not do it.
    InternalFailure = 10,
    /// The connection broke.
    BrokenConnection = 11,
    /// The host does not do this.
    Unimplemented = 12,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Trace = 0,
    Debug = 1,
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

impl LogLevel {
    pub(crate) fn from_abi(number: u32) -> Option<Self> {
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Critical]
            .into_iter()
            .find(|level| *level as u32 == number)
    }
}

/// Kinds of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum MetricKind {
    /// Only grows.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
    /// Keeps every recorded value.
    Histogram = 2,
}

impl MetricKind {
    pub(crate) fn from_abi(number: u32) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Histogram].into_iter().find(|kind| *kind as u32 == number)
    }
}

/// The two halves of an HTTP stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// Header maps a module can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapType {
    Headers(Direction),
    Trailers(Direction),
    GrpcInitialMetadata,
    GrpcTrailingMetadata,
    CallHeaders,
    CallTrailers,
}

impl MapType {
    pub(crate) fn from_abi(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::Headers(Direction::Request),
            1 => Self::Trailers(Direction::Request),
            2 => Self::Headers(Direction::Response),
            3 => Self::Trailers(Direction::Response),
            4 => Self::GrpcInitialMetadata,
            5 => Self::GrpcTrailingMetadata,
            6 => Self::CallHeaders,
            7 => Self::CallTrailers,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// Buffers a module can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BufferType {
    Body(Direction),
    Tcp(Direction),
    CallBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
    CallData,
}

impl BufferType {
    pub(crate) fn from_abi(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::Body(Direction::Request),
            1 => Self::Body(Direction::Response),
            2 => Self::Tcp(Direction::Request),
            3 => Self::Tcp(Direction::Response),
            4 => Self::CallBody,
            5 => Self::GrpcMessage,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            8 => Self::CallData,
            _ => return Err(Status::BadArgument),
        })
    }
}
