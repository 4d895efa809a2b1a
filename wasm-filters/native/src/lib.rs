//! The filters as a dynamic module of Envoy's: `libtollgate_gateway.so`, for gateways that say `filters: native`.
//!
//! The same code as in Wasm, without a virtual machine around it: `tollgate-filter` decides which calls a request takes,
//! and [`host`] answers them from Envoy's own structures instead of copies. What a VM gave for nothing is here:
//!
//! ```text
//! worker thread ─► hooks ─► Worker (one Vm, locked) ─► Vm ─► Host ─► Envoy
//!                                │ ▲
//!          calls, counts, ticks  │ │  answers, ticks
//!                                ▼ │
//! main thread ───► hooks ─► extension (one of the process)
//! ```
//!
//! A stream is touched on its worker's thread only. What outlives streams (calls to the quota service, news of what is
//! revoked, ticks, metrics) Envoy has for modules on its main thread only, and safely for as long as the process lives only
//! by its *bootstrap extension*: a configuration of the filter may end on any thread, under calls that are under way.
//! A bug that would trap a VM is a panic here, and costs what it costs there: the request, and what its VM knew.

#![expect(unsafe_code, reason = "Envoy's side of a module is a C ABI")]

mod extension;
#[cfg(test)]
mod fake;
mod ffi;
mod hooks;
mod host;
mod roots;
mod shared;
mod streams;
mod then;
mod worker;
