//! The type of a resource, and the order in which types are sent.
//!
//! Known types are an index, others share one allocation; both compare and clone without touching the text. There is
//! no global table of unknown types: peers choose those strings, and a table that only grows is a leak they control.

use std::fmt;
use std::sync::Arc;

/// A resource type URL. Ordered as an aggregated stream must send types so that nothing refers to what is not there
/// yet: clusters, endpoints, secrets, extension configurations, listeners, routes, virtual hosts, then the rest
/// (xDS protocol, "Eventual consistency considerations").
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeUrl(Kind);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Known(u8),
    Other(Arc<str>),
}

/// Full URL and short name, in send order; the constants below are indices into it.
const KNOWN: [(&str, &str); 8] = [
    ("type.googleapis.com/envoy.config.cluster.v3.Cluster", "CDS"),
    ("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "EDS"),
    ("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "SDS"),
    ("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", "ECDS"),
    ("type.googleapis.com/envoy.config.listener.v3.Listener", "LDS"),
    ("type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "RDS"),
    ("type.googleapis.com/envoy.config.route.v3.VirtualHost", "VHDS"),
    ("type.googleapis.com/envoy.service.runtime.v3.Runtime", "RTDS"),
];

impl TypeUrl {
    /// Clusters (CDS).
    pub const CLUSTER: TypeUrl = TypeUrl(Kind::Known(0));
    /// Cluster load assignments (EDS).
    pub const ENDPOINT: TypeUrl = TypeUrl(Kind::Known(1));
    /// TLS secrets (SDS).
    pub const SECRET: TypeUrl = TypeUrl(Kind::Known(2));
    /// Typed extension configurations (ECDS).
    pub const EXTENSION: TypeUrl = TypeUrl(Kind::Known(3));
    /// Listeners (LDS).
    pub const LISTENER: TypeUrl = TypeUrl(Kind::Known(4));
    /// Route configurations (RDS).
    pub const ROUTE: TypeUrl = TypeUrl(Kind::Known(5));
    /// Virtual hosts (VHDS).
    pub const VIRTUAL_HOST: TypeUrl = TypeUrl(Kind::Known(6));
    /// Runtime layers (RTDS).
    pub const RUNTIME: TypeUrl = TypeUrl(Kind::Known(7));

    /// Takes any type URL, with its prefix (`type.googleapis.com/…`).
    pub fn new(url: &str) -> TypeUrl {
        match (0u8..).zip(KNOWN).find(|(_, (known, _))| *known == url) {
            Some((index, _)) => TypeUrl(Kind::Known(index)),
            None => TypeUrl(Kind::Other(url.into())),
        }
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::Known(index) => KNOWN[usize::from(*index)].0,
            Kind::Other(url) => url,
        }
    }

    /// `CDS`, `EDS`, …, or `other`: a bounded set of names, fit for a metric's label.
    pub fn short(&self) -> &'static str {
        match &self.0 {
            Kind::Known(index) => KNOWN[usize::from(*index)].1,
            Kind::Other(_) => "other",
        }
    }

    /// Whether a state-of-the-world response carries every resource, so that absence means removal: listeners and
    /// clusters only (xDS protocol, "Grouping resources into responses"). The same two have the legacy wildcard.
    pub fn is_full_state(&self) -> bool {
        *self == TypeUrl::LISTENER || *self == TypeUrl::CLUSTER
    }

    /// Whether the type takes part in make before break: other types refer to it or it refers to them.
    pub fn is_ordered(&self) -> bool {
        *self <= TypeUrl::VIRTUAL_HOST
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Known(_) => f.write_str(self.short()),
            Kind::Other(url) => f.write_str(url),
        }
    }
}

impl From<&str> for TypeUrl {
    fn from(url: &str) -> TypeUrl {
        TypeUrl::new(url)
    }
}
