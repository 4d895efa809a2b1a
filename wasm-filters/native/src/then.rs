//! What is put off until a worker's lock is released, as Envoy may call in again while it does it.

use crate::extension::Queued;
use crate::ffi::{self, Buffer, Handle, Header};

/// What becomes of a request.
pub enum Reply {
    Continue,
    Respond(Response),
}

/// An answer of the filter's own.
pub struct Response {
    status: u32,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Response {
    /// With these.
    pub fn new(status: u32, headers: &[(&[u8], &[u8])], body: &[u8]) -> Self {
        Self { status, headers: owned(headers), body: body.to_vec() }
    }

    /// Adds a header.
    pub fn add(&mut self, name: &str, value: &str) {
        self.headers.push((name.into(), value.into()));
    }

    /// What is said where the filter could not decide.
    pub fn unavailable() -> Self {
        Self::new(503, &[], &[])
    }

    /// Sends it. On the stream's thread.
    pub fn send(&self, envoy: Handle) {
        let headers: Vec<Header> = self.headers.iter().map(Header::of).collect();
        // SAFETY: the caller's stream is there; Envoy reads the rest.
        unsafe {
            ffi::envoy_dynamic_module_callback_http_send_response(
                envoy,
                self.status,
                headers.as_ptr(),
                headers.len(),
                Buffer::of(&self.body),
                Buffer::EMPTY,
            );
        }
    }
}

/// What is to be done once the worker's lock is released.
#[derive(Default)]
pub struct Then {
    pub replies: Vec<(u32, Reply)>,
    pub queued: Vec<Queued>,
    /// The main thread's timer is to come earlier.
    pub wakes: bool,
}

impl Then {
    /// Takes over what another notes.
    pub fn take(&mut self, other: &mut Self) {
        self.replies.append(&mut other.replies);
        self.queued.append(&mut other.queued);
        self.wakes |= std::mem::take(&mut other.wakes);
    }

    /// Whether a request is answered or continued.
    pub fn ends(&self, stream: u32) -> bool {
        self.replies.iter().any(|(replied, _)| *replied == stream)
    }
}

/// Copies.
pub fn owned(headers: &[(&[u8], &[u8])]) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}
