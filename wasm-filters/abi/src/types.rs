//! What host calls take and tell, whichever host it is.

use std::time::Duration;

/// Why a host call did not do what it was asked (`proxy_status_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There is no such thing.
    NotFound,
    /// Somebody else wrote first.
    CasMismatch,
    /// Anything else.
    Failed(u32),
}

/// What a host call tells.
pub type Result<T = ()> = std::result::Result<T, Status>;

/// Header maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Map {
    /// Of the request.
    Request = 0,
    /// Of the response.
    Response = 2,
    /// Of the answer to a call.
    CallResponse = 6,
}

/// A request to another service.
#[derive(Debug, Clone, Copy)]
pub struct HttpCall<'a> {
    /// Envoy's name of it.
    pub cluster: &'a str,
    /// Pseudo-headers included.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The body.
    pub body: &'a [u8],
    /// How long to wait.
    pub timeout: Duration,
}

/// A unary gRPC call.
#[derive(Debug, Clone, Copy)]
pub struct GrpcCall<'a> {
    /// Envoy's name of the other service.
    pub cluster: &'a str,
    /// Who is asked, by its own name.
    pub authority: &'a str,
    /// Both as an encoded `envoy.config.core.v3.GrpcService`.
    pub upstream: &'a [u8],
    /// Its gRPC service, in full.
    pub service: &'a str,
    /// The method.
    pub method: &'a str,
    /// The encoded request.
    pub message: &'a [u8],
    /// How long to wait.
    pub timeout: Duration,
}

/// A counter of the proxy's; those of all workers by one name are one.
#[derive(Debug, Clone, Copy)]
pub struct Counter(pub(crate) u32);

/// Headers as the ABI has them: a count, the sizes of each name and value, then these with a NUL after each.
pub fn serialize<'a>(pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Vec<u8> {
    let size = pairs.clone().fold(4, |size: usize, (name, value)| {
        size.saturating_add(10).saturating_add(name.len()).saturating_add(value.len())
    });
    let mut out = Vec::with_capacity(size);
    let number = |out: &mut Vec<u8>, number: usize| out.extend_from_slice(&(number as u32).to_le_bytes());
    number(&mut out, pairs.len());
    for (name, value) in pairs.clone() {
        number(&mut out, name.len());
        number(&mut out, value.len());
    }
    for part in pairs.flat_map(|(name, value)| [name, value]) {
        out.extend_from_slice(part);
        out.push(0);
    }
    out
}
