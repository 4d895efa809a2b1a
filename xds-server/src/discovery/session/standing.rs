//! What the client has of each resource, from the server's view: computed when somebody asks, out of what the session
//! keeps anyway, so that it costs a client nothing.

use std::borrow::Cow;
use std::sync::Arc;

use super::delivery::Delivery;
use super::response::wire_version;
use super::{Flavour, Session};
use crate::snapshot::{Resource, ResourceSet, TypeUrl};

/// Where a client is with one resource that it subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has it: by ACK, or because it came with it.
    Synced,
    /// It was not sent this version, or there is no such resource.
    NotSent,
    /// It was sent this version, and has not answered.
    Stale,
    /// It refused a response that had it, and was not sent another since.
    Refused,
}

/// One resource as one client stands to it.
#[derive(Debug, Clone)]
pub struct Held<'a> {
    /// Its name.
    pub name: &'a Arc<str>,
    /// What the client is served; `None` for a name without a resource.
    pub resource: Option<&'a Arc<Resource>>,
    /// As it is, or will be, on the wire: the resource's version in delta, that of all of its type in state of the
    /// world. Empty for a name without a resource.
    pub version: Cow<'a, str>,
    /// Where the client is with it.
    pub standing: Standing,
}

impl Session {
    /// What the client subscribes to of one type: what there is in order of name, then names without a resource. Removals
    /// on their way are left out.
    pub fn held(&self, type_url: &TypeUrl) -> Box<dyn Iterator<Item = Held<'_>> + '_> {
        let Some(delivery) = self.types.get(type_url) else { return Box::new(std::iter::empty()) };
        let set = self.snapshot.as_ref().map(|snapshot| &**self.set(snapshot, type_url));
        let wildcard = delivery.wanted.is_wildcard();
        let mut names: Vec<&Arc<str>> = (delivery.wanted.names().iter())
            .filter(|name| !wildcard || set.is_none_or(|set| set.get(name).is_none()))
            .collect();
        names.sort_unstable_by_key(|name| (set.is_none_or(|set| set.get(name).is_none()), *name));
        let all = set.filter(|_| wildcard).into_iter().flat_map(ResourceSet::iter).map(|r| r.name());
        Box::new(all.chain(names).map(move |name| self.one(delivery, set, name)))
    }

    fn one<'a>(&self, delivery: &'a Delivery, set: Option<&'a ResourceSet>, name: &'a Arc<str>) -> Held<'a> {
        let resource = set.and_then(|set| set.get(name));
        let version = match (resource, set, self.flavour) {
            (Some(resource), _, Flavour::Delta) => Cow::Borrowed(&**resource.version()),
            (Some(_), Some(set), Flavour::StateOfTheWorld) => {
                wire_version(self.flavour, delivery.wanted.is_wildcard(), set.version())
            }
            _ => Cow::Borrowed(""),
        };
        Held { name, resource, version, standing: delivery.standing(name, resource) }
    }
}
