//! TLS of listeners and clusters → their transport sockets. Certificates and authorities are only named here: they
//! come over SDS.

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message;

use super::secret::{ca_name, certificate_name};
use super::{any, proto};
use crate::gateway::model::{Cluster, ClusterTls, ListenerTls, Protocol, TlsVersion};
use crate::gateway::scalar::{Name, ServerName, SubjectAltName};

const TRANSPORT_SOCKET: &str = "envoy.transport_sockets.tls";

const H2: &str = "h2";
const HTTP_1_1: &str = "http/1.1";

/// Towards clients.
pub(super) fn downstream(tls: &ListenerTls) -> TransportSocket {
    let client = tls.client_certificate.as_ref();
    socket(&DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: params(tls.min_version),
            alpn_protocols: vec![H2.into(), HTTP_1_1.into()],
            tls_certificate_sds_secret_configs: tls.certificates.iter().map(certificate).collect(),
            validation_context_type: client.map(|client| validation(&client.ca, &client.subject_alt_names)),
            ..CommonTlsContext::default()
        }),
        require_client_certificate: client.and_then(|client| proto::boolean(client.required)),
        ..DownstreamTlsContext::default()
    })
}

/// Towards endpoints.
pub(super) fn upstream(cluster: &Cluster, tls: &ClusterTls) -> TransportSocket {
    let server_name = cluster.server_name();
    let names = match (tls.subject_alt_names.as_slice(), &server_name) {
        ([], Some(name)) => vec![SubjectAltName::Dns(name.as_str().to_owned())],
        (names, _) => names.to_vec(),
    };
    socket(&UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: params(TlsVersion::V1_2),
            alpn_protocols: vec![
                match cluster.protocol {
                    Protocol::Http1 => HTTP_1_1,
                    Protocol::Http2 => H2,
                }
                .into(),
            ],
            tls_certificate_sds_secret_configs: tls.certificate.iter().map(certificate).collect(),
            validation_context_type: tls.ca.as_ref().map(|ca| validation(ca, &names)),
            ..CommonTlsContext::default()
        }),
        sni: server_name.as_ref().map(ServerName::as_str).unwrap_or_default().to_owned(),
        ..UpstreamTlsContext::default()
    })
}

fn socket<M: Message + prost::Name>(context: &M) -> TransportSocket {
    TransportSocket {
        name: TRANSPORT_SOCKET.into(),
        config_type: Some(ConfigType::TypedConfig(any(context))),
    }
}

/// Said aloud: Envoy's defaults differ between the two sides.
fn params(min: TlsVersion) -> Option<TlsParameters> {
    let min = match min {
        TlsVersion::V1_2 => TlsProtocol::TlSv12,
        TlsVersion::V1_3 => TlsProtocol::TlSv13,
    };
    Some(TlsParameters {
        tls_minimum_protocol_version: min.into(),
        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
        ..TlsParameters::default()
    })
}

fn certificate(name: &Name) -> SdsSecretConfig {
    SdsSecretConfig { name: certificate_name(name), sds_config: proto::ads() }
}

/// Signed by the authority, and holding one of the names, where there are any.
fn validation(ca: &Name, names: &[SubjectAltName]) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: names.iter().map(matcher).collect(),
            ..CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(SdsSecretConfig {
            name: ca_name(ca),
            sds_config: proto::ads(),
        }),
        ..CombinedCertificateValidationContext::default()
    })
}

fn matcher(name: &SubjectAltName) -> SubjectAltNameMatcher {
    let (san_type, text) = match name {
        SubjectAltName::Dns(name) => (SanType::Dns, name.clone()),
        SubjectAltName::Uri(uri) => (SanType::Uri, uri.clone()),
        SubjectAltName::Ip(address) => (SanType::IpAddress, address.to_string()),
    };
    SubjectAltNameMatcher {
        san_type: san_type.into(),
        matcher: Some(proto::string_matcher(MatchPattern::Exact(text))),
        ..SubjectAltNameMatcher::default()
    }
}
