//! A gateway whose listeners speak TLS, composed from parts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tollgate_tests::{
    gateway::{Gateway, replace},
    ports,
    tls::{Authority, Client, Issued},
};

use crate::upstreams;

/// What a test adds: listener `secure` with the certificates `public` and `other` of the authority `edge` is always
/// there, and sends what no route takes to the upstream `a`.
#[derive(Default)]
pub struct Parts<'a> {
    pub certificates: &'a [(&'a str, &'a Issued)],
    pub trusted_cas: &'a [(&'a str, &'a Authority)],
    /// Name, port, and what stands in its `tls`.
    pub listeners: &'a [(&'a str, u16, &'a str)],
    /// Items of the `routes` of `secure`.
    pub routes: &'a [String],
    /// Members of `clusters`.
    pub clusters: &'a [String],
}

/// The servers, and what is needed to be their client.
pub struct TlsGateway {
    pub gateway: Gateway,
    /// Has signed `public`, for `public.example`, and `other`, for `other.example`.
    pub authority: Authority,
    /// Where `secure` listens.
    pub port: u16,
}

impl TlsGateway {
    pub fn start(name: &str, parts: &Parts<'_>) -> Self {
        let authority = Authority::new("edge").unwrap();
        let port = ports::free().unwrap();
        let public = authority.issue(&["public.example", "127.0.0.1"]).unwrap();
        let other = authority.issue(&["other.example", "127.0.0.1"]).unwrap();
        let gateway = Gateway::edge_only_from(name, |folder, _| {
            let certificates = [("public", &public), ("other", &other)];
            for (name, pair) in certificates.iter().chain(parts.certificates) {
                write_pair(folder, name, pair);
            }
            for (name, authority) in [("edge", &authority)].iter().chain(parts.trusted_cas) {
                fs::write(folder.join(format!("ca-{name}.pem")), authority.pem())?;
            }
            let yaml = folder.join("gateway.yaml");
            fs::write(&yaml, parts.yaml(port))?;
            Ok(yaml)
        });
        Self { gateway: gateway.unwrap(), authority, port }
    }

    /// A client of `secure` that asks for that server.
    pub fn client(&self, server_name: &'static str) -> Client {
        Client::new(self.port, server_name, &self.authority).unwrap()
    }

    /// The folder of the YAML.
    pub fn folder(&self) -> &Path {
        self.gateway.yaml_path().parent().unwrap()
    }

    /// A file beside the YAML.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The certificate in a file beside the YAML.
    pub fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.file(name)).unwrap()
    }
}

impl Parts<'_> {
    pub fn yaml(&self, port: u16) -> String {
        let certificates =
            ["public", "other"].into_iter().chain(self.certificates.iter().map(|(name, _)| *name));
        let certificates =
            certificates.map(|name| format!("{name}: {{ chain: {name}.pem, key: {name}.key }}"));
        let cas = ["edge"].into_iter().chain(self.trusted_cas.iter().map(|(name, _)| *name));
        let cas = cas.map(|name| format!("{name}: {{ file: ca-{name}.pem }}"));
        let host =
            |routes: &str| format!("virtual_hosts: [{{ name: test, hosts: [\"*\"], routes: [{routes}] }}]");
        let all_to_a = "{ match: { path: { prefix: / } }, to: a }".to_owned();
        let secure = self.routes.iter().cloned().chain([all_to_a.clone()]).collect::<Vec<_>>().join(", ");
        let listeners = [("secure", port, "certificates: [public, other]", secure.as_str())]
            .into_iter()
            .chain(self.listeners.iter().map(|(name, port, tls)| (*name, *port, *tls, all_to_a.as_str())));
        let names = listeners.clone().map(|(name, ..)| name).collect::<Vec<_>>().join(", ");
        let listeners = listeners.map(|(name, port, tls, routes)| {
            format!("{name}: {{ address: 127.0.0.1:{port}, tls: {{ {tls} }}, {} }}", host(routes))
        });
        let a = format!("a: {{ endpoints: [\"{}\"] }}", upstreams::a().address());
        [
            format!("version: v1\nproxies: {{ edge: {{ listeners: [{names}] }} }}\n"),
            section("certificates", certificates),
            section("trusted_cas", cas),
            section("listeners", listeners),
            section("clusters", self.clusters.iter().cloned().chain([a])),
        ]
        .concat()
    }
}

fn section(name: &str, members: impl Iterator<Item = String>) -> String {
    let members: Vec<String> = members.map(|member| format!("  {member}\n")).collect();
    if members.is_empty() { String::new() } else { format!("{name}:\n{}", members.concat()) }
}

/// As an administrator copies them: each file in one step, one after the other.
pub fn write_pair(folder: &Path, name: &str, pair: &Issued) {
    replace(&folder.join(format!("{name}.pem")), &pair.chain).unwrap();
    replace(&folder.join(format!("{name}.key")), &pair.key).unwrap();
}

/// A route by the cluster's name to the cluster.
pub fn route(cluster: &str) -> String {
    format!("{{ match: {{ path: {{ exact: /{cluster} }} }}, to: {cluster} }}")
}
