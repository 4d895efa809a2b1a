//! Runs proxy-wasm filters outside of Envoy, so that the `.wasm` file that Envoy will load can be unit tested.
//!
//! A [`Host`] stands for one Envoy: it owns time (which moves only when a test moves it), the clusters that callouts
//! may go to, shared data, queues and metrics. [`Host::plugin`] starts a module as Envoy does: in a canary VM, in
//! the main thread's, and in one VM a [`Worker`], each its own instance with its own memory. A test sends a request
//! into a worker, looks at what the filter did with it ([`Outcome`]), answers the callouts it made ([`Callout`]),
//! gives it a response, and reads what it logged ([`Logs`]) and counted ([`Host::metric`]).
//!
//! ```no_run
//! use std::time::Duration;
//! use tollgate_wasm_host::{Error, Host, Outcome};
//!
//! # fn main() -> Result<(), Error> {
//! let host = Host::new().cluster("keys");
//! let plugin = host
//!     .plugin("target/wasm/auth.wasm")
//!     .configuration(r#"{"trust_identity_headers": false, "claim_headers": [], "policies": {}}"#)
//!     .workers(2)
//!     .start()?;
//!
//! let mut stream = plugin
//!     .worker(0)
//!     .request([(":path", "/v1/things"), ("x-api-key", "secret")])
//!     .property(["xds", "route_name"], "api/GET /v1/*;plugin=public/gateway,auth=consumers")
//!     .send()?;
//!
//! // The filter asks another service about the key, and holds the request until it has the answer.
//! assert_eq!(stream.outcome(), Outcome::Pause);
//! let callout = stream.callout().expect("a question");
//! assert_eq!(callout.cluster, "keys");
//! callout.reply(200, [("content-type", "application/json")], r#"{"active": true, "consumer": "c1"}"#)?;
//!
//! let upstream = stream.outcome();
//! let upstream = upstream.forwarded().expect("let through");
//! assert_eq!(upstream.headers.text("x-consumer-id").as_deref(), Some("c1"));
//! stream.response([(":status", "200")]).body("hello").send()?;
//! stream.finish()?;
//!
//! host.clock().advance(Duration::from_secs(60))?; // ticks and timeouts fire on the way
//! assert_eq!(host.metric("auth.allowed"), Some(1));
//! assert!(!plugin.logs().contains("error"));
//! # Ok(())
//! # }
//! ```
//!
//! # What is like Envoy
//!
//! What a filter can see and do was measured on Envoy 1.40 with the guest in `guest/`, and is kept even where it is
//! awkward, because a filter that only works here is worse than none: a second `Authorization` header is folded into
//! the first with a comma; request headers are gone in the response callbacks, and as soon as the filter continues
//! the stream; a local reply passes through the filter's own response callbacks; answers to callouts reach the module
//! even when the stream that asked is gone; a dead cluster is a 503, a late one a 504, an unknown one `BadArgument`
//! and one without hosts `InternalFailure`; the log callback comes before the done callback.
//!
//! A module that traps takes its VM with it. The call that did it returns [`Error::Trap`] with what the module
//! logged, the stream gets 503, and later streams get what the [`FailurePolicy`] says. A paused stream stays paused
//! for ever, as it does in Envoy. An endless loop is a trap, too, after [`Host::fuel_per_call`] instructions.
//!
//! # What is not
//!
//! TCP filters, Envoy's whole attribute tree (set the property you read), `Struct` configurations, CEL expressions,
//! watermarks and buffer limits, and two plugins in one VM (they share data and queues by VM id, but not memory).
//! Everything runs on the thread of the test, one callback after the other, so that a test that failed once fails
//! again.

mod abi;
mod callout;
mod clock;
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

pub use abi::{LogLevel, MetricKind, Status};
pub use callout::{Callout, GrpcCallout, Owner};
pub use clock::Clock;
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
pub use worker::Worker;

/// A property path as the ABI writes it: segments with a NUL between.
fn path(segments: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<u8> {
    let segments: Vec<_> = segments.into_iter().collect();
    let segments: Vec<&[u8]> = segments.iter().map(|segment| segment.as_ref().as_bytes()).collect();
    segments.join(&0)
}
