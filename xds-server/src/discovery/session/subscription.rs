//! Which names of one type a client wants, in both flavours' ways of saying it.
//!
//! Knows nothing of versions or of what was sent: it turns requests into a set of names and reports what that added
//! and took away. Rules from the xDS protocol, "How the client specifies what resources to return".

use std::sync::Arc;

use crate::snapshot::{Names, ResourceSet};

/// What each subscribed name is counted with on top of its length, in bytes: its place in the set.
const NAME_OVERHEAD: usize = 48;

const WILDCARD: &str = "*";

/// The subscription of one type on one stream.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    wildcard: bool,
    /// Wildcard by an empty list, which only a first request can bring and any explicit one ends.
    legacy: bool,
    names: Names,
    bytes: usize,
}

/// What one request did to a subscription.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Names now to be answered: new ones, and in delta those asked for again.
    pub asked: Names,
    /// Names that are no longer subscribed to by name.
    pub dropped: Vec<Arc<str>>,
    /// The wildcard was switched on.
    pub wildcard_on: bool,
    /// The wildcard was switched off.
    pub wildcard_off: bool,
}

impl Subscription {
    /// Whether the client wants this name.
    pub fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The names subscribed to explicitly.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// About the memory this subscription holds, in bytes: what a limit is checked against.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// State of the world: the request lists all names. `legacy` says that an empty list may mean everything (listeners
    /// and clusters), `first` that this is the type's first request on the stream.
    pub fn replace(&mut self, listed: Vec<String>, legacy: bool, first: bool, known: &ResourceSet) -> Change {
        if listed.is_empty() && legacy && (first || self.legacy) {
            self.legacy = true;
            return self.set_wildcard(true);
        }
        let mut change = self.set_wildcard(listed.iter().any(|name| name == WILDCARD));
        self.legacy = false;

        let listed = sorted(&listed);
        if self.names.is_empty() {
            change.asked = self.select(&listed, known);
            return change;
        }
        let is_listed = |name: &str| listed.binary_search(&name).is_ok();
        change.dropped = self.names.iter().filter(|name| !is_listed(name)).cloned().collect();
        for name in &change.dropped {
            self.remove(name);
        }
        change.asked = listed.into_iter().filter_map(|name| self.add(name, known)).collect();
        change
    }

    /// Delta: the request lists differences. A name in both lists stays subscribed; one that already was is to be
    /// answered again, since the client may have forgotten it.
    pub fn update(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        legacy: bool,
        first: bool,
        known: &ResourceSet,
    ) -> Change {
        let had = self.wildcard;
        if first && legacy && subscribe.is_empty() && unsubscribe.is_empty() {
            self.wildcard = true;
        }
        let mut change = Change::default();
        for name in unsubscribe {
            match name == WILDCARD {
                true => self.wildcard = false,
                false => change.dropped.extend(self.remove(&name)),
            }
        }
        self.wildcard |= subscribe.iter().any(|name| name == WILDCARD);
        let subscribe = sorted(&subscribe);
        change.asked = match self.names.is_empty() {
            true => self.select(&subscribe, known),
            false => subscribe
                .into_iter()
                .filter_map(|name| self.add(name, known).or_else(|| self.names.get(name).cloned()))
                .collect(),
        };
        change.dropped.retain(|name| !self.names.contains(name));
        (change.wildcard_on, change.wildcard_off) = (self.wildcard && !had, had && !self.wildcard);
        change
    }

    /// Adds one name.
    pub fn subscribe(&mut self, name: &str) -> Arc<str> {
        let added = self.add(name, &ResourceSet::default());
        added.or_else(|| self.names.get(name).cloned()).unwrap_or_else(|| name.into())
    }

    fn set_wildcard(&mut self, on: bool) -> Change {
        let had = std::mem::replace(&mut self.wildcard, on);
        Change { wildcard_on: on && !had, wildcard_off: had && !on, ..Change::default() }
    }

    /// Subscribes to names where there were none, sharing what other clients that list the same have.
    fn select(&mut self, names: &[&str], known: &ResourceSet) -> Names {
        self.bytes = names.iter().map(|name| name.len() + NAME_OVERHEAD).sum();
        self.names = known.select(names).names.clone();
        self.names.clone()
    }

    /// Adds a name, sharing the snapshot's copy of it where there is one; `None` if it was there.
    fn add(&mut self, name: &str, known: &ResourceSet) -> Option<Arc<str>> {
        if self.names.contains(name) {
            return None;
        }
        let name: Arc<str> = known.get(name).map_or_else(|| name.into(), |resource| resource.name().clone());
        self.bytes += name.len() + NAME_OVERHEAD;
        self.names.insert(name.clone());
        Some(name)
    }

    fn remove(&mut self, name: &str) -> Option<Arc<str>> {
        let name = self.names.remove(name)?;
        self.bytes -= name.len() + NAME_OVERHEAD;
        Some(name)
    }
}

/// The names of a list in order, each once, without the wildcard.
fn sorted(list: &[String]) -> Vec<&str> {
    let mut names: Vec<&str> = list.iter().map(String::as_str).filter(|name| *name != WILDCARD).collect();
    if !names.is_sorted() {
        names.sort_unstable();
    }
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| name.to_string()).collect()
    }

    fn asked(list: &[&str]) -> Names {
        list.iter().map(|name| Arc::from(*name)).collect()
    }

    fn sotw(subscription: &mut Subscription, list: &[&str], first: bool) -> Change {
        subscription.replace(names(list), true, first, &ResourceSet::default())
    }

    fn delta(
        subscription: &mut Subscription,
        subscribe: &[&str],
        unsubscribe: &[&str],
        first: bool,
    ) -> Change {
        subscription.update(names(subscribe), names(unsubscribe), true, first, &ResourceSet::default())
    }

    #[test]
    fn an_empty_first_list_is_a_wildcard_and_stays_one() {
        let mut subscription = Subscription::default();
        assert!(sotw(&mut subscription, &[], true).wildcard_on);
        assert_eq!(sotw(&mut subscription, &[], false), Change::default());
        assert!(subscription.wants("anything"));
    }

    #[test]
    fn an_empty_list_after_an_explicit_one_unsubscribes_all() {
        for explicit in [&["a"][..], &["*"], &["*", "a"]] {
            let mut subscription = Subscription::default();
            sotw(&mut subscription, &[], true);
            sotw(&mut subscription, explicit, false);
            sotw(&mut subscription, &[], false);
            assert!(!subscription.wants("a"), "after {explicit:?}");
        }
    }

    #[test]
    fn an_empty_list_is_no_wildcard_for_types_without_the_legacy_one() {
        let mut subscription = Subscription::default();
        subscription.replace(vec![], false, true, &ResourceSet::default());
        assert!(!subscription.wants("a"));
    }

    #[test]
    fn an_empty_name_is_no_wildcard() {
        let mut subscription = Subscription::default();
        assert_eq!(sotw(&mut subscription, &[""], true).asked, asked(&[""]));
        assert!(!subscription.is_wildcard() && subscription.wants("") && !subscription.wants("a"));
    }

    #[test]
    fn an_empty_delta_request_is_a_wildcard_only_when_first() {
        let mut first = Subscription::default();
        assert!(delta(&mut first, &[], &[], true).wildcard_on);
        let mut later = Subscription::default();
        delta(&mut later, &["a"], &[], true);
        delta(&mut later, &[], &[], false);
        assert!(!later.is_wildcard());
    }

    #[test]
    fn a_name_subscribed_again_is_asked_again_in_delta_only() {
        let mut subscription = Subscription::default();
        delta(&mut subscription, &["a"], &[], true);
        assert_eq!(delta(&mut subscription, &["a"], &[], false).asked, asked(&["a"]));
        assert_eq!(sotw(&mut subscription, &["a"], false).asked, asked(&[]));
    }

    #[test]
    fn a_name_in_both_lists_stays() {
        let mut subscription = Subscription::default();
        delta(&mut subscription, &["a"], &[], true);
        let change = delta(&mut subscription, &["a"], &["a"], false);
        assert_eq!((change.asked.len(), change.dropped.len()), (1, 0));
        assert!(subscription.wants("a"));
    }

    #[test]
    fn what_is_unsubscribed_is_no_longer_counted() {
        let mut subscription = Subscription::default();
        delta(&mut subscription, &["a", "bb"], &[], true);
        assert_eq!(subscription.bytes(), 3 + 2 * NAME_OVERHEAD);
        delta(&mut subscription, &[], &["a", "bb", "never"], false);
        assert_eq!(subscription.bytes(), 0);
    }
}
