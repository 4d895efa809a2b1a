//! Which virtual host answers a host, and how it is sent to who asked for that host (VHDS).
//!
//! An Envoy asks for `ROUTE-CONFIGURATION/HOST` when no virtual host that it has matches a request's host. Were it sent
//! `*.example.com`, it would never ask for `api.example.com` again, and serve that by the wrong routes. So the match is
//! made here, by Envoy's rules, and what is sent is a virtual host for exactly the host that was asked for:
//!
//! | in the set | asked for | sent |
//! |---|---|---|
//! | `edge/api`: domains `*.example.com`, routes | `edge/A.example.com:8080` | `edge/a.example.com`: domain `a.example.com`, the same routes |
//!
//! Not here: who asked for what (`discovery::session`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::wire::{field_len, put_field};
use super::{Resource, ResourceSet, TypeUrl};

/// `VirtualHost.name` and `VirtualHost.domains`.
const NAME: u32 = 1;
const DOMAINS: u32 = 2;

/// The virtual hosts of a set, by route configuration and domain.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    configurations: HashMap<String, Domains>,
}

/// Envoy's order: exact, then the longest suffix, the longest prefix, and `*`.
#[derive(Debug, Default)]
struct Domains {
    exact: HashMap<String, Arc<Routes>>,
    suffixes: BTreeMap<Reverse<usize>, HashMap<String, Arc<Routes>>>,
    prefixes: BTreeMap<Reverse<usize>, HashMap<String, Arc<Routes>>>,
    any: Option<Arc<Routes>>,
}

/// What a virtual host has beside name and domains, encoded.
#[derive(Debug)]
struct Routes {
    version: Arc<str>,
    body: Bytes,
}

/// The name of the resource that answers for `asked`: the host in lower case and without its port. `None` for what is no
/// host: a wildcard in a domain would match others, too.
pub fn host_resource(asked: &str) -> Option<String> {
    let (configuration, host) = asked.rsplit_once('/')?;
    let port = host.rfind(':').filter(|colon| host.rfind(']').is_none_or(|end| end < *colon));
    let host = &host[..port.unwrap_or(host.len())];
    let is_host = !host.is_empty() && !host.contains('*');
    is_host.then(|| format!("{configuration}/{}", host.to_ascii_lowercase()))
}

impl ResourceSet {
    /// What answers for these hosts, named as by [`host_resource`]; who has no virtual host is left out. The resources of
    /// `known` are reused. The version is that of this set.
    pub fn for_hosts<'a>(
        &self,
        names: impl IntoIterator<Item = &'a Arc<str>>,
        known: &ResourceSet,
    ) -> ResourceSet {
        let mut content = super::set::Content::default();
        for resource in names.into_iter().filter_map(|name| self.for_host(name, known)) {
            content.insert(resource);
        }
        ResourceSet::under_version_of(self, content)
    }

    /// `known`, which was made from this set, and what answers for more hosts.
    pub fn for_more_hosts<'a>(
        &self,
        names: impl IntoIterator<Item = &'a Arc<str>>,
        known: &ResourceSet,
    ) -> ResourceSet {
        let mut content = known.content().clone();
        for resource in names.into_iter().filter_map(|name| self.for_host(name, known)) {
            content.insert(resource);
        }
        ResourceSet::under_version_of(self, content)
    }

    /// Whether some virtual host answers for the host of this name.
    pub fn has_host(&self, name: &str) -> bool {
        self.hosts().find(name).is_some()
    }

    fn for_host(&self, name: &Arc<str>, known: &ResourceSet) -> Option<Arc<Resource>> {
        let (host, routes) = self.hosts().find(name)?;
        if let Some(known) = known.get(name).filter(|known| *known.version() == routes.version) {
            return Some(known.clone());
        }
        let len = field_len(NAME, name.len()) + field_len(DOMAINS, host.len()) + routes.body.len();
        let mut body = Vec::with_capacity(len);
        put_field(NAME, name.as_bytes(), &mut body);
        put_field(DOMAINS, host.as_bytes(), &mut body);
        body.extend_from_slice(&routes.body);
        Some(Arc::new(Resource::new(&TypeUrl::VIRTUAL_HOST, name, &routes.version, &body)))
    }
}

impl Hosts {
    pub fn new<'a>(resources: impl Iterator<Item = &'a Arc<Resource>>) -> Hosts {
        let mut hosts = Hosts::default();
        for resource in resources {
            // What does not parse is nobody's host.
            let Some((configuration, _)) = resource.name().rsplit_once('/') else { continue };
            let Some((domains, body)) = split(resource.body()) else { continue };
            let routes = Arc::new(Routes { version: resource.version().clone(), body });
            let table = hosts.configurations.entry(configuration.to_owned()).or_default();
            for domain in domains {
                table.insert(&domain.to_ascii_lowercase(), &routes);
            }
        }
        hosts
    }

    fn find<'n>(&self, name: &'n str) -> Option<(&'n str, &Arc<Routes>)> {
        let (configuration, host) = name.rsplit_once('/')?;
        Some((host, self.configurations.get(configuration)?.find(host)?))
    }
}

impl Domains {
    fn insert(&mut self, domain: &str, routes: &Arc<Routes>) {
        let routes = routes.clone();
        match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            (Some(""), _) => self.any = Some(routes),
            (Some(suffix), _) => {
                self.suffixes.entry(Reverse(suffix.len())).or_default().insert(suffix.to_owned(), routes);
            }
            (None, Some(prefix)) => {
                self.prefixes.entry(Reverse(prefix.len())).or_default().insert(prefix.to_owned(), routes);
            }
            (None, None) => drop(self.exact.insert(domain.to_owned(), routes)),
        }
    }

    fn find(&self, host: &str) -> Option<&Arc<Routes>> {
        // A wildcard stands for at least one character.
        self.exact
            .get(host)
            .or_else(|| {
                self.suffixes.iter().find_map(|(Reverse(len), table)| {
                    let at = host.len().checked_sub(*len).filter(|at| *at > 0)?;
                    table.get(host.get(at..)?)
                })
            })
            .or_else(|| {
                self.prefixes.iter().find_map(|(Reverse(len), table)| {
                    table.get(host.get(..*len).filter(|prefix| prefix.len() < host.len())?)
                })
            })
            .or(self.any.as_ref())
    }
}

/// The domains of an encoded virtual host, and all but its name and domains.
fn split(mut body: Bytes) -> Option<(Vec<String>, Bytes)> {
    let (mut domains, mut rest) = (Vec::new(), Vec::new());
    while body.has_remaining() {
        let whole = body.clone();
        let (number, wire_type) = decode_key(&mut body).ok()?;
        if number == DOMAINS && wire_type == WireType::LengthDelimited {
            let len = usize::try_from(decode_varint(&mut body).ok()?).ok()?;
            let domain = (len <= body.len()).then(|| body.split_to(len))?;
            domains.push(String::from_utf8(domain.to_vec()).ok()?);
        } else {
            skip_field(wire_type, number, &mut body, DecodeContext::default()).ok()?;
            if number != NAME {
                rest.extend_from_slice(&whole[..whole.len() - body.len()]);
            }
        }
    }
    Some((domains, rest.into()))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::route::v3::{Route, VirtualHost};
    use prost::Message;

    use super::*;
    use crate::snapshot::Snapshot;

    /// Virtual hosts as `name: domain domain`, each with a route of its name.
    fn set(hosts: &[&str]) -> Arc<ResourceSet> {
        let mut builder = Snapshot::builder();
        for (name, domains) in hosts.iter().filter_map(|host| host.split_once(": ")) {
            let message = VirtualHost {
                name: name.into(),
                domains: domains.split(' ').map(str::to_owned).collect(),
                routes: vec![Route { name: name.into(), ..Route::default() }],
                include_request_attempt_count: true,
                ..VirtualHost::default()
            };
            builder.insert_message(name, &message);
        }
        builder.build().set(&TypeUrl::VIRTUAL_HOST).clone()
    }

    /// The virtual host that is sent to who asks.
    fn sent(set: &ResourceSet, asked: &str) -> Option<VirtualHost> {
        let name: Arc<str> = host_resource(asked)?.into();
        let sent = set.for_hosts([&name], &ResourceSet::default());
        let resource = sent.get(&name)?;
        Some(VirtualHost::decode(resource.body()).unwrap())
    }

    #[test]
    fn a_host_is_answered_by_the_virtual_host_that_envoy_would_choose() {
        let set = set(&[
            "r/exact: api.example.com [::1]",
            "r/suffix: *.example.com",
            "r/long: *.eu.example.com *-eu.example.com",
            "r/prefix: api.* ap*",
            "r/any: *",
            "other/one: one.com",
        ]);
        for (asked, expected) in [
            ("r/api.example.com", Some("r/exact")),
            ("r/API.Example.com:8080", Some("r/exact")),
            ("r/[::1]:80", Some("r/exact")),
            ("r/[::1]", Some("r/exact")),
            ("r/www.example.com", Some("r/suffix")),
            ("r/.example.com", Some("r/any")),
            ("r/a.eu.example.com", Some("r/long")),
            ("r/a-eu.example.com", Some("r/long")),
            ("r/api.example.org", Some("r/prefix")),
            ("r/apx", Some("r/prefix")),
            ("r/ap", Some("r/any")),
            ("r/one.com", Some("r/any")),
            ("r/*", None),
            ("r/*.example.com", None),
            ("r/", None),
            ("r/:80", None),
            ("r", None),
            ("other/one.com", Some("other/one")),
            ("other/two.com", None),
            ("none/one.com", None),
        ] {
            let route = sent(&set, asked).map(|host| host.routes[0].name.clone());
            assert_eq!(route.as_deref(), expected, "{asked}");
        }
    }

    #[test]
    fn what_is_sent_is_for_the_host_alone_and_else_the_same() {
        let set = set(&["r/wild: *.example.com *.example.org"]);
        let host = sent(&set, "r/A.example.com:80").unwrap();
        assert_eq!((&*host.name, host.domains), ("r/a.example.com", vec!["a.example.com".to_owned()]));
        assert!(host.include_request_attempt_count && host.routes.len() == 1);
    }

    #[test]
    fn a_changed_virtual_host_changes_what_its_hosts_are_sent_and_nothing_else() {
        let names: Vec<Arc<str>> = ["r/a.com", "r/b.com", "r/c.com"].map(Arc::from).to_vec();
        let before = set(&["r/a: a.com", "r/bc: b.com c.com"]).for_hosts(&names, &ResourceSet::default());
        let after = set(&["r/a: a.com", "r/bc: b.com"]).for_hosts(&names, &before);
        let changes = after.changes_since(&before);
        let changed: Vec<_> = changes.changed.iter().map(|resource| &**resource.name()).collect();
        assert_eq!((changed, &*changes.removed), (vec!["r/b.com"], &["r/c.com".into()][..]));
    }

    #[test]
    fn what_is_no_virtual_host_answers_for_nobody() {
        let mut builder = Snapshot::builder();
        builder.insert(&TypeUrl::VIRTUAL_HOST, "r/bad", &[0x12, 0xff]);
        let snapshot = builder.build();
        assert!(!snapshot.set(&TypeUrl::VIRTUAL_HOST).has_host("r/bad"));
    }
}
