//! What is shown of the gRPC port: who may speak with it, and who was refused.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::sync::watch;

use crate::discovery::DiscoveryService;
use crate::grouping::Security;

/// Where that comes from.
#[derive(Clone)]
pub struct Port {
    discovery: DiscoveryService,
    security: Security,
    warnings: Option<watch::Receiver<Vec<String>>>,
}

/// The gRPC port as it is now.
#[derive(Debug, Serialize)]
pub struct PortStatus {
    /// `off`, `server` (it shows a certificate) or `mutual` (clients show theirs, too).
    tls: &'static str,
    /// Connections that are open.
    pub connections: usize,
    /// Connections that were refused since the start, by why.
    pub refused: BTreeMap<&'static str, u64>,
    /// What people should look at: files that went bad, certificates out of date.
    warnings: Vec<String>,
}

impl Port {
    /// Shows the connections of `discovery`, and the warnings of its certificates.
    pub fn new(
        discovery: DiscoveryService,
        security: Security,
        warnings: Option<watch::Receiver<Vec<String>>>,
    ) -> Self {
        Self { discovery, security, warnings }
    }

    /// As it is now.
    pub fn status(&self) -> PortStatus {
        PortStatus {
            tls: match (self.security.tls, self.security.asks_clients) {
                (false, _) => "off",
                (true, false) => "server",
                (true, true) => "mutual",
            },
            connections: self.discovery.connections(),
            refused: self.discovery.refusals().map(|(refusal, count)| (refusal.name(), count)).collect(),
            warnings: self.warnings.as_ref().map(|warnings| warnings.borrow().clone()).unwrap_or_default(),
        }
    }
}
