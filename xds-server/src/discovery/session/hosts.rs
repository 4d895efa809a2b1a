//! Virtual hosts that are asked for by host (VHDS): which names a client holds, and the set that has exactly these.
//!
//! The rest of the session knows nothing of hosts: it is given a set of this client's own, in which every host it asked
//! for is a resource (`snapshot::hosts`). Envoy asks for a host once, so one that nobody has is remembered, too, and sent
//! should it come into being. Whoever sends requests to a proxy chooses these names, so both kinds are bounded.

use std::sync::Arc;

use super::delivery::Delivery;
use crate::snapshot::{ResourceSet, host_resource};

#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// Asked for, and not looked at since.
    asked: Vec<String>,
    view: Option<View>,
}

#[derive(Debug)]
struct View {
    source: Arc<ResourceSet>,
    set: Arc<ResourceSet>,
}

impl Hosts {
    /// Takes hosts out of what a client subscribes to; what is left is no host (`*`).
    pub fn take(&mut self, subscribe: &mut Vec<String>) {
        self.asked.extend(subscribe.extract_if(.., |name| name != "*"));
    }

    /// Bytes that are kept until the next look.
    pub fn bytes(&self) -> usize {
        self.asked.iter().map(String::len).sum()
    }

    /// Puts a client's unsubscription into the names that its hosts have.
    pub fn rename(unsubscribe: &mut [String]) {
        for name in unsubscribe {
            if let Some(resource) = host_resource(name) {
                *name = resource;
            }
        }
    }

    /// The names that the client changed itself are not in the set any more.
    pub fn forget(&mut self) {
        self.view = None;
    }

    /// Looks at what was asked for, and gives the set of all hosts that the client holds or is owed. At most `limit` hosts
    /// are remembered, and as many that nobody has; others are answered as if nobody had them, and forgotten.
    pub fn look(
        &mut self,
        source: &Arc<ResourceSet>,
        delivery: &mut Delivery,
        limit: usize,
    ) -> Arc<ResourceSet> {
        if delivery.wanted.is_wildcard() {
            self.asked.clear();
            return source.clone();
        }
        let mut added = Vec::new();
        let mut found = self.view.as_ref().map_or(0, |view| view.set.len());
        for asked in self.asked.drain(..) {
            let Some(name) = host_resource(&asked) else {
                delivery.tell(&asked);
                continue;
            };
            let (is_known, has_host) = (delivery.wanted.wants(&name), source.has_host(&name));
            let count = if has_host { found } else { delivery.wanted.names().len().saturating_sub(found) };
            let is_remembered = is_known || count < limit;
            if has_host && is_remembered {
                found += usize::from(!is_known);
                added.push(delivery.ask(&name));
            } else if is_remembered {
                delivery.wanted.subscribe(&name);
            }
            if asked != name || !has_host || !is_remembered {
                delivery.tell(&asked);
            }
        }
        let known = self.view.take();
        let set = match known {
            Some(known) if Arc::ptr_eq(&known.source, source) && added.is_empty() => known.set,
            Some(known) if Arc::ptr_eq(&known.source, source) => {
                Arc::new(source.for_more_hosts(&added, &known.set))
            }
            Some(known) => Arc::new(source.for_hosts(delivery.wanted.names(), &known.set)),
            None => Arc::new(source.for_hosts(delivery.wanted.names(), &ResourceSet::default())),
        };
        self.view = Some(View { source: source.clone(), set: set.clone() });
        set
    }

    /// The set of the last look.
    pub fn set(&self) -> Option<&Arc<ResourceSet>> {
        self.view.as_ref().map(|view| &view.set)
    }
}
