//! Which certificates are of a group of proxies: names, exact or with one `*`.

use std::net::IpAddr;
use std::str::FromStr;

use super::SubjectAltName;

/// A name that a certificate may hold (RFC 5280 section 4.2.1.6), or many of one kind: `spiffe://example.org/edge/*`,
/// `edge.internal`, `*.edge.internal`, `10.0.0.7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// This name alone.
    Exact(SubjectAltName),
    /// URIs of this scheme and authority whose path begins so; it ends with a slash.
    UriUnder(String),
    /// DNS names with exactly one label more than this, which begins with a dot.
    DnsUnder(String),
}

impl Identity {
    /// Whether it is a certificate with that URI. Compared byte by byte: SPIFFE IDs have one form only.
    pub fn is_uri(&self, uri: &str) -> bool {
        match self {
            Self::Exact(SubjectAltName::Uri(exact)) => exact == uri,
            Self::UriUnder(start) => uri.strip_prefix(start.as_str()).is_some_and(is_plain_path),
            _ => false,
        }
    }

    /// Whether it is a certificate with that DNS name. One for many hosts (`*.internal`) tells nobody's identity.
    pub fn is_dns(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match self {
            Self::Exact(SubjectAltName::Dns(exact)) => *exact == name,
            Self::DnsUnder(end) => name
                .strip_suffix(end.as_str())
                .is_some_and(|label| !label.is_empty() && !label.contains(['.', '*'])),
            _ => false,
        }
    }

    /// Whether it is a certificate with that address.
    pub fn is_address(&self, address: IpAddr) -> bool {
        matches!(self, Self::Exact(SubjectAltName::Ip(exact)) if *exact == address)
    }
}

/// Segments that nobody could take for others: no `..`, nothing escaped, no query (SPIFFE ID, section 2).
fn is_plain_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    path.split('/').all(|segment| !matches!(segment, "" | "." | "..") && segment.chars().all(plain))
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let many = match (text.strip_prefix("*."), text.strip_suffix("/*")) {
            (Some(parent), _) => match parent.parse() {
                Ok(SubjectAltName::Dns(parent)) => Some(Self::DnsUnder(format!(".{parent}"))),
                _ => None,
            },
            (None, Some(start)) => match start.parse() {
                Ok(SubjectAltName::Uri(start)) if !start.contains('*') => {
                    Some(Self::UriUnder(format!("{start}/")))
                }
                _ => None,
            },
            (None, None) => match text.parse() {
                Ok(SubjectAltName::Uri(uri)) if uri.contains('*') => None,
                Ok(name) => Some(Self::Exact(name)),
                Err(_) => None,
            },
        };
        many.ok_or_else(|| {
            format!(
                "`{text}` is no identity: expected a name in a certificate, such as spiffe://example.org/edge/a, \
                 edge.internal or 10.0.0.7, or many as spiffe://example.org/edge/* or *.edge.internal"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(text: &str) -> Identity {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn an_exact_identity_is_that_name_of_that_kind() {
        assert!(identity("spiffe://example.org/edge/a").is_uri("spiffe://example.org/edge/a"));
        assert!(!identity("spiffe://example.org/edge/a").is_uri("spiffe://example.org/edge/A"));
        assert!(!identity("spiffe://example.org/edge/a").is_uri("spiffe://example.org/edge/a/b"));
        assert!(identity("Edge.internal").is_dns("edge.INTERNAL"));
        assert!(!identity("edge.internal").is_dns("a.edge.internal"));
        assert!(!identity("edge.internal").is_uri("edge.internal"));
        assert!(identity("10.0.0.7").is_address([10, 0, 0, 7].into()));
        assert!(!identity("10.0.0.7").is_dns("10.0.0.7"));
    }

    #[test]
    fn a_star_at_the_end_of_a_uri_is_any_plain_path_below() {
        let edge = identity("spiffe://example.org/edge/*");
        for uri in ["spiffe://example.org/edge/a", "spiffe://example.org/edge/eu-1/a.b_c"] {
            assert!(edge.is_uri(uri), "{uri}");
        }
        for uri in [
            "spiffe://example.org/edge",
            "spiffe://example.org/edge/",
            "spiffe://example.org/edges/a",
            "spiffe://example.org.evil/edge/a",
            "spiffe://example.org/sidecar/a",
            "spiffe://example.org/edge/../sidecar/a",
            "spiffe://example.org/edge/%2e%2e/sidecar",
            "spiffe://example.org/edge//a",
            "spiffe://example.org/edge/a?b",
            "https://example.org/edge/a",
        ] {
            assert!(!edge.is_uri(uri), "{uri}");
        }
    }

    #[test]
    fn a_star_before_a_dns_name_is_one_label() {
        let edge = identity("*.edge.internal");
        assert!(edge.is_dns("a.edge.internal") && edge.is_dns("A.Edge.Internal"));
        for name in
            ["edge.internal", ".edge.internal", "a.b.edge.internal", "*.edge.internal", "a.edge.internal.x"]
        {
            assert!(!edge.is_dns(name), "{name}");
        }
    }

    #[test]
    fn what_could_be_anybody_is_no_identity() {
        for text in [
            "",
            "*",
            "/*",
            "*.",
            "*.*.internal",
            "spiffe://*",
            "spiffe://*/a",
            "spiffe://a/*/b",
            "a*",
            "https://",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
