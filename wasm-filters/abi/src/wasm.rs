//! The proxy-wasm ABI 0.2.1: its imports, in safe shapes.

pub mod calls;
pub mod memory;
mod raw;
