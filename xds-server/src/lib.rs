//! Tollgate's control plane: desired state in, xDS out.
//!
//! ```text
//! source (files) → gateway (YAML model, checked) → translate (Envoy protos) → snapshot (immutable, versioned)
//!    → rollout (who may move to it, and when) → discovery (per-stream xDS state) → Envoy
//! ```
//!
//! Data flows that way only. `gateway` knows no proto, `translate` does no I/O, `discovery` knows neither.

pub mod gateway;
pub mod source;
pub mod translate;
