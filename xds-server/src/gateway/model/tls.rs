//! TLS on both sides: certificates and authorities by name, and who shows and checks which.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Cluster, Listener};
use crate::gateway::scalar::{FilePath, Name, ServerName, SubjectAltName};

/// A certificate and its key, in two PEM files. They are read again when they change, and reach the Envoys over SDS:
/// no listener drains. While a changed pair does not fit, the last one that did keeps serving. Only Envoys whose
/// listeners or clusters name the certificate get it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// File with the certificate, and behind it those that lead to its authority. Relative to the folder of this
    /// file.
    pub chain: FilePath,
    /// File with the private key, not encrypted: RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384, or
    /// Ed25519.
    pub key: FilePath,
}

/// Authorities whose certificates are believed. The file is read again when it changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedCa {
    /// PEM file with one certificate or more. Relative to the folder of this file.
    pub file: FilePath,
}

/// TLS towards clients: HTTP/2 or HTTP/1.1, as the client chooses (ALPN).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Names under `certificates`. The client's server name (SNI) chooses among them; without one that matches, the
    /// first is shown.
    pub certificates: Vec<Name>,
    /// The oldest version accepted. Default `TLSv1_2`.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Ask clients for a certificate (mTLS).
    pub client_certificate: Option<ClientCertificate>,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "TLSv1_2")]
    V1_2,
    #[serde(rename = "TLSv1_3")]
    V1_3,
}

/// What clients must show. Upstreams see it in `x-forwarded-client-cert`; what a client sends there is always removed.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// Name under `trusted_cas`.
    pub ca: Name,
    /// Whether clients without a certificate are refused. A certificate that does not verify is always refused.
    /// Default true.
    #[serde(default = "yes")]
    pub required: bool,
    /// Names of which the certificate must hold one: DNS names, URIs or IP addresses. Empty: any certificate of the
    /// authority.
    #[serde(default)]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// TLS towards endpoints, TLS 1.2 or later. Health checks use it, too.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterTls {
    /// Name under `trusted_cas`: who must have signed the endpoints' certificates. Needed unless `verify` is false.
    pub ca: Option<Name>,
    /// Whether the endpoints' certificates are verified. With false, whoever answers is believed. Default true.
    #[serde(default = "yes")]
    pub verify: bool,
    /// Server name that is asked for (SNI). Default: the DNS name of the endpoints, where they all have the same.
    pub sni: Option<ServerName>,
    /// Names of which an endpoint's certificate must hold one: DNS names, URIs or IP addresses. Default: the server
    /// name.
    #[serde(default)]
    pub subject_alt_names: Vec<SubjectAltName>,
    /// Name under `certificates`: what is shown to endpoints that ask (mTLS).
    pub certificate: Option<Name>,
}

/// What a listener or a cluster names of `certificates` and of `trusted_cas`.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names say it all")]
pub struct TlsNames<'a> {
    pub certificates: Vec<&'a Name>,
    pub trusted_cas: Vec<&'a Name>,
}

impl Listener {
    /// What it shows, and whom it believes.
    pub fn tls_names(&self) -> TlsNames<'_> {
        let Some(tls) = &self.tls else { return TlsNames::default() };
        TlsNames {
            certificates: tls.certificates.iter().collect(),
            trusted_cas: tls.client_certificate.iter().map(|client| &client.ca).collect(),
        }
    }
}

impl Cluster {
    /// What it shows, and whom it believes.
    pub fn tls_names(&self) -> TlsNames<'_> {
        let Some(tls) = &self.tls else { return TlsNames::default() };
        TlsNames { certificates: tls.certificate.iter().collect(), trusted_cas: tls.ca.iter().collect() }
    }

    /// The server name that the cluster's endpoints are asked for: that of `tls.sni`, else their own. IP addresses
    /// have none.
    pub fn server_name(&self) -> Option<ServerName> {
        if let Some(sni) = self.tls.as_ref().and_then(|tls| tls.sni.clone()) {
            return Some(sni);
        }
        let mut hosts = self.endpoints.iter().map(|endpoint| endpoint.address.host.as_str());
        let first = hosts.next()?;
        hosts.all(|host| host.eq_ignore_ascii_case(first)).then_some(first)?.parse().ok()
    }
}

fn yes() -> bool {
    true
}
