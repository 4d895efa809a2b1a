//! What a stream has been sent and has accepted, type by type: what the registry and the status page show.

use std::sync::Arc;
use std::time::SystemTime;

use crate::snapshot::TypeUrl;

/// The state of one type on one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeStatus {
    /// Whether the client subscribes to everything.
    pub wildcard: bool,
    /// Names it subscribes to explicitly.
    pub names: usize,
    /// Version and nonce of the last response.
    pub sent: Option<(Arc<str>, Arc<str>)>,
    /// The version of the type's set which the client is known to hold, as far as it subscribes: by ACK, or because
    /// nothing it subscribes to changed, or because it came with it.
    pub acked: Option<Arc<str>>,
    /// The version of the type's set of which the client has answered everything it was sent, be it by refusing.
    pub answered: Option<Arc<str>>,
    /// The last refusal on this stream, also when it was made good since.
    pub nack: Option<Nack>,
    /// Resources refused and not replaced since; not 0 means that the last word on something was a NACK.
    pub rejected: usize,
}

impl TypeStatus {
    /// Whether the client wants anything of this type.
    pub fn is_subscribed(&self) -> bool {
        self.wildcard || self.names > 0
    }
}

/// A refused response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The version that was refused.
    pub version: Arc<str>,
    /// `error_detail.message`, cut to 4 KiB.
    pub message: String,
    /// When it arrived.
    pub at: SystemTime,
}

/// What a request said about the response before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was accepted.
    Ack {
        /// The type it was about.
        type_url: TypeUrl,
        /// The version that was accepted.
        version: Arc<str>,
    },
    /// It was refused; the client keeps what it had.
    Nack {
        /// The type it was about.
        type_url: TypeUrl,
        /// The version that was refused.
        version: Arc<str>,
        /// The client's reason, cut to 4 KiB.
        message: String,
    },
}
