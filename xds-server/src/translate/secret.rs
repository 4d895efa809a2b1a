//! Certificates and authorities → Secret (SDS), so that a replaced file drains no listener.
//!
//! The body of a certificate's resource holds its private key. Only groups that show the certificate get it.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret::Type,
};

use super::{Resource, Target, clusters_of, listeners};
use crate::gateway::Gateway;
use crate::gateway::model::TlsNames;
use crate::gateway::scalar::Name;

/// Name of a certificate's resource. Certificates and authorities have one name space in Envoy, and two in the YAML.
pub(super) fn certificate_name(name: &Name) -> String {
    format!("certificate/{name}")
}

/// Name of an authority's resource.
pub(super) fn ca_name(name: &Name) -> String {
    format!("trusted_ca/{name}")
}

/// Everything that the group's listeners and clusters name in any gateway that is present.
pub(super) fn secrets(group: &str, target: Target<'_>) -> impl Iterator<Item = Resource> {
    let files = &target.keys.files;
    let mut secrets = BTreeMap::new();
    for gateway in target.present {
        let TlsNames { certificates, trusted_cas } = used(group, gateway);
        let pairs = certificates.into_iter().filter_map(|name| {
            let pair = files.key_pairs.get(gateway.certificates.get(name)?)?;
            let certificate = TlsCertificate {
                certificate_chain: inline(pair.chain()),
                private_key: inline(pair.key()),
                ..TlsCertificate::default()
            };
            Some((certificate_name(name), Type::TlsCertificate(certificate)))
        });
        let bundles = trusted_cas.into_iter().filter_map(|name| {
            let bundle = files.ca_bundles.get(gateway.trusted_cas.get(name)?)?;
            let context = CertificateValidationContext {
                trusted_ca: inline(bundle.certificates()),
                ..CertificateValidationContext::default()
            };
            Some((ca_name(name), Type::ValidationContext(context)))
        });
        secrets.extend(pairs.chain(bundles));
    }
    secrets.into_iter().map(|(name, content)| {
        let secret = Secret { name: name.clone(), r#type: Some(content) };
        Resource::new(name, &secret)
    })
}

/// Names that a group's listeners and clusters refer to.
fn used<'a>(group: &str, gateway: &'a Gateway) -> TlsNames<'a> {
    let mut used = TlsNames::default();
    let mut add = |names: TlsNames<'a>| {
        used.certificates.extend(names.certificates);
        used.trusted_cas.extend(names.trusted_cas);
    };
    for (_, listener) in listeners(group, gateway) {
        add(listener.tls_names());
        let clusters = clusters_of(gateway, listener);
        clusters
            .iter()
            .filter_map(|name| gateway.clusters.get(name))
            .for_each(|cluster| add(cluster.tls_names()));
    }
    used
}

fn inline(pem: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineString(pem.to_owned())), ..DataSource::default() })
}
