//! Ports: the ones that the documentation names, and free ones for tests.
//!
//! Free ports come from below the range that Linux gives to outgoing connections (32768 and up), so that no
//! connection of another test takes a port between its reservation and its use; and none is handed out
//! twice in one run, so that a stopped server's port is there for its restart.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Result, bail};

const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// Every port that the stack binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The edge Envoy's public listener.
    pub edge: u16,
    /// The edge Envoy's admin interface.
    pub edge_admin: u16,
    /// The sidecar's listener for requests to the service.
    pub sidecar_inbound: u16,
    /// The sidecar's listener for requests of the service.
    pub sidecar_outbound: u16,
    /// The sidecar Envoy's admin interface.
    pub sidecar_admin: u16,
    /// xds-server, gRPC.
    pub xds_grpc: u16,
    /// xds-server, status and metrics.
    pub xds_http: u16,
    /// xds-server, the quota service.
    pub xds_quota: u16,
    /// api-service, public.
    pub api_public: u16,
    /// api-service, internal.
    pub api_internal: u16,
}

impl Default for Ports {
    /// The ports of the files in `envoy-configs/`.
    fn default() -> Self {
        Self {
            edge: 10_000,
            edge_admin: 9901,
            sidecar_inbound: 10_001,
            sidecar_outbound: 10_002,
            sidecar_admin: 9902,
            xds_grpc: 18_000,
            xds_http: 18_001,
            xds_quota: 18_002,
            api_public: 8081,
            api_internal: 8082,
        }
    }
}

impl Ports {
    /// Free ports for all.
    pub fn free() -> Result<Self> {
        Ok(Self {
            edge: free()?,
            edge_admin: free()?,
            sidecar_inbound: free()?,
            sidecar_outbound: free()?,
            sidecar_admin: free()?,
            xds_grpc: free()?,
            xds_http: free()?,
            xds_quota: free()?,
            api_public: free()?,
            api_internal: free()?,
        })
    }

    /// Each port with what it is for, in the order in which requests meet them.
    pub fn named(&self) -> [(&'static str, u16); 10] {
        [
            ("edge", self.edge),
            ("edge-admin", self.edge_admin),
            ("sidecar-inbound", self.sidecar_inbound),
            ("sidecar-outbound", self.sidecar_outbound),
            ("sidecar-admin", self.sidecar_admin),
            ("xds-grpc", self.xds_grpc),
            ("xds-http", self.xds_http),
            ("xds-quota", self.xds_quota),
            ("api-public", self.api_public),
            ("api-internal", self.api_internal),
        ]
    }
}

/// A loopback port that nobody listens on, and that this run has not handed out before.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in FIRST..=LAST {
        // Runs side by side begin at different places.
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + process::id() % 113 * 100;
        let port = FIRST + u16::try_from(step % u32::from(LAST - FIRST + 1))?;
        if TcpListener::bind(loopback(port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {LAST}")
}

/// The loopback address with this port.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() {
        let handed_out: Vec<u16> = (0..500).map(|_| free().unwrap()).collect();
        let distinct: BTreeSet<u16> = handed_out.iter().copied().collect();
        assert_eq!(distinct.len(), handed_out.len());
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let next = free().unwrap() + 1;
        let _taken = TcpListener::bind(loopback(next));
        assert_ne!(free().unwrap(), next);
    }
}
