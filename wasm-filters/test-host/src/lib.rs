//! Runs proxy-wasm filters outside of Envoy, so that the `.wasm` file that Envoy will load can be unit tested.
//!
//! The design: `vm` is one instance of a module and the one way into it; `hostcalls` is what the module calls, which
//! sees nothing but that instance's state; `shared` is what all instances share. What tests hold ([`Host`],
//! [`Plugin`], [`Worker`], [`Stream`], [`Callout`], …) are handles to these. Nothing here knows a filter.
#![doc = include_str!("../README.md")]

mod abi;
mod callout;
mod clock;
mod connection;
mod error;
mod foreign;
mod headers;
mod host;
mod hostcalls;
mod logs;
mod module;
mod outcome;
mod pairs;
mod plugin;
mod protobuf;
mod request;
mod shared;
mod stream;
mod vm;
mod worker;

pub use abi::{
    Answer, CALLBACKS, Callback, HOST_FUNCTIONS, HostFunction, LogLevel, MetricKind, Status, Support,
};
pub use callout::{Callout, GrpcCallout, Owner};
pub use clock::Clock;
pub use connection::Connection;
pub use error::{Error, Trap};
pub use headers::HeaderMap;
pub use host::{ClusterState, Host};
pub use logs::{LogLine, Logs, VmName};
pub use module::{Module, Source};
pub use outcome::{LocalReply, Message, Outcome};
pub use plugin::spec::FailurePolicy;
pub use plugin::{Plugin, PluginBuilder};
pub use request::{RequestBuilder, ResponseBuilder};
pub use stream::Stream;
pub use vm::connection::Peer;
pub use worker::Worker;

/// A property path as the ABI writes it: segments with a NUL between.
fn path(segments: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<u8> {
    let segments: Vec<_> = segments.into_iter().collect();
    let segments: Vec<&[u8]> = segments.iter().map(|segment| segment.as_ref().as_bytes()).collect();
    segments.join(&0)
}
