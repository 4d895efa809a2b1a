//! The names in a client's certificate, read once a connection. Whether they may be believed was decided in the
//! handshake; what they allow is decided by the grouping.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names of a certificate that are shown, when it is told of.
const SHOWN: usize = 8;

/// Whom a verified certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// URIs, SPIFFE IDs among them.
    pub uris: Vec<String>,
    /// DNS names, without those for many hosts.
    pub dns: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// When the certificate is no longer valid.
    pub until: SystemTime,
}

impl Identity {
    /// Reads the subject alternative names (RFC 5280, section 4.2.1.6) of a certificate in DER. The subject's common name
    /// counts for nothing, as everywhere (RFC 9525).
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let unreadable = |_| "the client's certificate can't be read".to_owned();
        let (_, certificate) = X509Certificate::from_der(der).map_err(unreadable)?;
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let until = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
        let mut identity = Self { uris: Vec::new(), dns: Vec::new(), addresses: Vec::new(), until };
        let names = certificate.subject_alternative_name();
        let names = names.map_err(|_| "the client's certificate has unreadable names".to_owned())?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => identity.uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) if !name.contains('*') => identity.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => identity.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(identity)
    }

    /// Whether it has no name at all.
    pub fn is_empty(&self) -> bool {
        self.uris.is_empty() && self.dns.is_empty() && self.addresses.is_empty()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.uris.iter().chain(&self.dns).cloned();
        let names = names.chain(self.addresses.iter().map(ToString::to_string));
        let shown: Vec<String> = names.take(SHOWN).collect();
        match shown.is_empty() {
            true => f.write_str("a certificate without names"),
            // What was signed may be anything; a log line stays one.
            false => f.write_str(&shown.join(", ").escape_debug().to_string()),
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn identity(params: CertificateParams) -> Identity {
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Identity::read(certificate.der()).unwrap()
    }

    #[test]
    fn names_are_read_by_their_kind_and_wildcards_are_nobody() {
        let mut params =
            CertificateParams::new(["edge.internal", "*.internal", "10.0.0.7"].map(str::to_owned)).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://example.org/edge/a".try_into().unwrap()));
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let identity = identity(params);
        assert_eq!(identity.uris, ["spiffe://example.org/edge/a"]);
        assert_eq!(identity.dns, ["edge.internal"]);
        assert_eq!(identity.addresses, [IpAddr::from([10, 0, 0, 7])]);
        assert_eq!(identity.until.duration_since(UNIX_EPOCH).unwrap().as_secs(), 2_208_988_800);
        assert_eq!(identity.to_string(), "spiffe://example.org/edge/a, edge.internal, 10.0.0.7");
    }

    #[test]
    fn the_common_name_is_no_identity() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "edge.internal");
        assert!(identity(params).is_empty());
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        assert!(Identity::read(b"no").is_err() && Identity::read(&[]).is_err());
    }
}
