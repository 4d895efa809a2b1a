//! Which group of proxies a peer is in: by what its certificate says and the YAML's `identities`, not by what it says
//! itself. Every service of the gRPC port asks here (`DiscoveryService::identify`).
//!
//! Closed by default: a group with `identities` is served to nobody else; where clients are asked for certificates, a group
//! without is served to nobody.
//!
//! Not here: verifying certificates, which is done in the handshake (`discovery::transport`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::discovery::service::Grouping;
use crate::discovery::transport::Identity;
use crate::gateway::model::ProxyGroup;
use crate::gateway::position::join;
use crate::gateway::scalar;
use crate::gateway::{Gateway, Problem};
use crate::settings::Serve;

/// What the gRPC port is secured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Security {
    /// Whether only this machine reaches it.
    pub is_local: bool,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it asks clients for certificates.
    pub asks_clients: bool,
}

impl Security {
    /// As set, on this address.
    pub fn of(settings: &Serve, grpc: SocketAddr) -> Self {
        Self {
            is_local: grpc.ip().is_loopback(),
            tls: settings.transport.grpc_certificate.is_some(),
            asks_clients: settings.transport.grpc_client_ca.is_some(),
        }
    }
}

/// The groups as the configuration has them now. Clones are the same.
#[derive(Debug, Clone)]
pub struct Groups {
    security: Security,
    rules: Arc<RwLock<Rules>>,
    changes: watch::Sender<u64>,
}

impl Groups {
    /// None yet.
    pub fn new(security: Security) -> Self {
        let rules = Rules { asks_clients: security.asks_clients, identities: BTreeMap::new() };
        Self { security, rules: Arc::new(RwLock::new(rules)), changes: watch::Sender::new(0) }
    }

    /// Takes the groups of a gateway: holds for new streams, and for those that are open.
    pub fn apply(&self, gateway: &Gateway) {
        let of = |group: &ProxyGroup| group.identities.clone();
        let identities = gateway.proxies.iter().map(|(name, group)| (name.to_string(), of(group))).collect();
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        if rules.identities != identities {
            rules.identities = identities;
            drop(rules);
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Decides by the groups of the time when it is asked.
    pub fn grouping(&self) -> Grouping {
        let rules = Arc::clone(&self.rules);
        Arc::new(move |peer| {
            let rules = rules.read().unwrap_or_else(PoisonError::into_inner);
            rules.group_of(&peer.node.cluster, peer.identity())
        })
    }

    /// A number that grows when the groups change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What people should know of a gateway that is served over this port.
    pub fn advise(&self, gateway: &Gateway) -> Vec<Problem> {
        let mut problems = Vec::new();
        let Security { is_local, tls, asks_clients } = self.security;
        if !is_local && !gateway.certificates.is_empty() && !asks_clients {
            let (message, help) = match tls {
                false => (
                    "private keys travel in plain text: the gRPC port is open to other machines, and speaks no TLS",
                    "set --grpc-certificate and --grpc-key, and --grpc-client-ca",
                ),
                true => (
                    "private keys are served to whoever asks: the gRPC port is open to other machines, and asks for no \
                     certificate",
                    "set --grpc-client-ca, and say in `proxies` whose certificates are of which group (`identities`)",
                ),
            };
            problems.push(Problem::key("/certificates", message).help(help).warning());
        }
        for (name, group) in &gateway.proxies {
            let pointer = join("/proxies", name.as_str());
            match (asks_clients, group.identities.is_empty()) {
                (true, true) => {
                    let message = format!("group `{name}` is served to nobody: it has no `identities`");
                    let help = "say whose certificates are of this group, as identities: [spiffe://example.org/edge/*]";
                    problems.push(Problem::key(pointer, message).help(help).warning());
                }
                (false, false) => {
                    let message =
                        format!("group `{name}` is served to nobody: clients are not asked for certificates");
                    let help = "set --grpc-client-ca, --grpc-certificate and --grpc-key";
                    problems
                        .push(Problem::key(format!("{pointer}/identities"), message).help(help).warning());
                }
                _ => {}
            }
        }
        problems
    }
}

#[derive(Debug)]
struct Rules {
    asks_clients: bool,
    identities: BTreeMap<String, Vec<scalar::Identity>>,
}

impl Rules {
    /// The group of a peer that says it is of `cluster`, or why it is in none.
    fn group_of(&self, cluster: &str, identity: Option<&Identity>) -> Result<String, String> {
        let listed = self.identities.get(cluster).is_some_and(|identities| !identities.is_empty());
        let Some(identity) = identity else {
            return match listed || self.asks_clients {
                false => Ok(cluster.to_owned()),
                true => Err(format!("group `{cluster}` is for certificates, and the connection has none")),
            };
        };
        let mut own = self.identities.iter().filter(|(_, identities)| admits(identities, identity));
        if cluster.is_empty() {
            return match (own.next(), own.next()) {
                (Some((group, _)), None) => Ok(group.clone()),
                (None, _) => Err(format!("no group has {identity} among its `identities`")),
                (Some(_), Some(_)) => Err(format!(
                    "several groups have {identity} among their `identities`: node.cluster must say which"
                )),
            };
        }
        match own.any(|(group, _)| group == cluster) {
            true => Ok(cluster.to_owned()),
            false => Err(format!("group `{cluster}` does not have {identity} among its `identities`")),
        }
    }
}

fn admits(identities: &[scalar::Identity], certificate: &Identity) -> bool {
    identities.iter().any(|identity| {
        certificate.uris.iter().any(|uri| identity.is_uri(uri))
            || certificate.dns.iter().any(|name| identity.is_dns(name))
            || certificate.addresses.iter().any(|address| identity.is_address(*address))
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::gateway::{self, SourceFile};

    const YAML: &str = "version: v1\nproxies:\n  edge: { listeners: [], identities: ['spiffe://example.org/edge/*', edge.internal] }\n  \
                        sidecar: { listeners: [], identities: ['spiffe://example.org/sidecar/*', 'spiffe://example.org/edge/both'] }\n  \
                        open: { listeners: [] }\ncertificates: { public: { chain: a.pem, key: a.key } }\n";
    const MUTUAL: Security = Security { is_local: false, tls: true, asks_clients: true };
    const PLAIN: Security = Security { is_local: true, tls: false, asks_clients: false };

    fn yaml(text: &str) -> Gateway {
        let file = SourceFile { path: "gateway.yaml".into(), text: text.into() };
        gateway::load(vec![file]).unwrap_or_else(|report| panic!("{report}")).gateway
    }

    fn groups(security: Security) -> Groups {
        let groups = Groups::new(security);
        groups.apply(&yaml(YAML));
        groups
    }

    fn shown(name: &str) -> Identity {
        let mut identity =
            Identity { uris: Vec::new(), dns: Vec::new(), addresses: Vec::new(), until: SystemTime::now() };
        match name.contains("://") {
            true => identity.uris.push(name.to_owned()),
            false => identity.dns.push(name.to_owned()),
        }
        identity
    }

    fn group_of(security: Security, cluster: &str, name: Option<&str>) -> Result<String, String> {
        let groups = groups(security);
        let rules = groups.rules.read().unwrap();
        rules.group_of(cluster, name.map(shown).as_ref())
    }

    #[test]
    fn a_certificate_decides_the_group_whatever_the_node_says() {
        let (edge, both) = (Some("spiffe://example.org/edge/a"), Some("spiffe://example.org/edge/both"));
        for (cluster, name, group) in [
            ("edge", edge, Some("edge")),
            ("", edge, Some("edge")),
            ("edge", Some("edge.internal"), Some("edge")),
            ("edge", both, Some("edge")),
            ("sidecar", both, Some("sidecar")),
            ("", both, None),
            ("sidecar", edge, None),
            ("edge", Some("spiffe://example.org/sidecar/a"), None),
            ("edge", Some("spiffe://example.org/edge"), None),
            ("", Some("spiffe://example.org/other/a"), None),
            ("open", edge, None),
            ("unknown", edge, None),
            ("edge", None, None),
            ("open", None, None),
            ("", None, None),
        ] {
            assert_eq!(group_of(MUTUAL, cluster, name).ok().as_deref(), group, "{cluster} {name:?}");
        }
    }

    #[test]
    fn without_certificates_only_groups_without_identities_are_served() {
        assert_eq!(group_of(PLAIN, "open", None).as_deref(), Ok("open"));
        assert_eq!(group_of(PLAIN, "unknown", None).as_deref(), Ok("unknown"));
        let reason = group_of(PLAIN, "edge", None).unwrap_err();
        assert_eq!(reason, "group `edge` is for certificates, and the connection has none");
    }

    #[test]
    fn a_refusal_names_who_was_refused_what() {
        let reason = group_of(MUTUAL, "edge", Some("spiffe://example.org/sidecar/a")).unwrap_err();
        assert_eq!(
            reason,
            "group `edge` does not have spiffe://example.org/sidecar/a among its `identities`"
        );
    }

    #[test]
    fn a_change_of_identities_is_told_once() {
        let groups = groups(MUTUAL);
        let mut changes = groups.changes();
        groups.apply(&yaml(YAML));
        assert!(!changes.has_changed().unwrap());
        groups.apply(&yaml(&YAML.replace(", edge.internal", "")));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let rules = groups.rules.read().unwrap();
        assert!(rules.group_of("edge", Some(&shown("edge.internal"))).is_err());
    }

    #[test]
    fn people_are_told_of_keys_in_the_open_and_of_groups_for_nobody() {
        let advice = |security| -> Vec<String> {
            let problems = groups(security).advise(&yaml(YAML));
            problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect()
        };
        let open = Security { is_local: false, ..PLAIN };
        for (security, expected) in [
            (open, "/certificates: private keys travel in plain text"),
            (Security { tls: true, ..open }, "/certificates: private keys are served to whoever asks"),
            (PLAIN, "/proxies/edge/identities: group `edge` is served to nobody"),
            (MUTUAL, "/proxies/open: group `open` is served to nobody: it has no `identities`"),
        ] {
            let advice = advice(security);
            assert!(advice.iter().any(|told| told.starts_with(expected)), "{security:?}: {advice:?}");
        }
        assert_eq!(advice(MUTUAL).len(), 1);
        assert_eq!(advice(PLAIN).len(), 2);
    }
}
