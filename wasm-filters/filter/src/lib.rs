//! The filters' way through Envoy: which host calls a request takes, in which order, and nothing else.
//!
//! Every decision is `tollgate-filter-core`'s. What costs time is a call into the VM (one for each exported callback) and
//! a host call that returns data, so a request makes as few as it can:
//!
//! ```text
//! request headers ─► name of the route ─► all headers ─► time ─► decisions ─► headers to change, one call each
//! response headers ─► headers of the limit, where there was one
//! each second ─► counters
//! always ─► one call that tells what was revoked
//! a millisecond after a shared limit ran low ─► one call to the quota service, for all that did
//! ```
//!
//! [`Vm`] is one virtual machine; [`Auth`], [`RateLimit`] and [`Both`] say which filter it is.

mod counters;
mod host;
mod kind;
mod plugin;
mod refill;
mod revoked;
mod shared;
mod source;
mod vm;

pub use counters::metrics;
pub use kind::{Auth, Both, Kind, RateLimit};
pub use vm::Vm;
