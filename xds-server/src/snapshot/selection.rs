//! What a set has of the names a client lists: one answer for all clients that list the same.
//!
//! The proxies of a group nearly always list the same names, endpoints of every cluster say. The first of them pays for
//! a set of names and a list of resources, and the others share both; a list that names what there is not, or little,
//! is its client's own, so that what is kept here is bounded by what is served and not by what peers say.

use std::sync::{Arc, Mutex, PoisonError};

use imbl::OrdSet;

use super::{Resource, ResourceSet};

/// How many lists one set remembers.
const REMEMBERED: usize = 8;
/// Lists shorter than this are not worth a place.
const WORTH_SHARING: usize = 16;

/// Names in order. Persistent: clones share their nodes, and one that is edited all but a path of them.
pub type Names = OrdSet<Arc<str>>;

/// What a set has of some names.
#[derive(Debug)]
pub struct Selection {
    /// All of them.
    pub names: Names,
    /// The resources there are, in name order.
    pub found: Arc<[Arc<Resource>]>,
    /// The names without a resource, in order.
    pub missing: Vec<Arc<str>>,
}

/// The selections that were made from one set.
#[derive(Debug, Default)]
pub(super) struct Selections(Mutex<Vec<Arc<Selection>>>);

impl ResourceSet {
    /// What there is of these names, which are in order and each there once.
    pub fn select(&self, names: &[&str]) -> Arc<Selection> {
        let same = |known: &Selection| known.names.iter().map(|name| &**name).eq(names.iter().copied());
        self.selections.find(names.len(), same, || {
            let own = |name: &&str| self.get(name).map_or_else(|| Arc::from(*name), |r| r.name().clone());
            Selection::new(self, names.iter().map(own).collect())
        })
    }

    /// What there is of `names`.
    pub fn select_all(&self, names: &Names) -> Arc<Selection> {
        let same = |known: &Selection| known.names.ptr_eq(names);
        self.selections.find(names.len(), same, || Selection::new(self, names.clone()))
    }
}

impl Selection {
    fn new(set: &ResourceSet, names: Names) -> Selection {
        let (mut found, mut missing) = (Vec::with_capacity(names.len()), Vec::new());
        for name in &names {
            match set.get(name) {
                Some(resource) => found.push(resource.clone()),
                None => missing.push(name.clone()),
            }
        }
        Selection { names, found: found.into(), missing }
    }
}

impl Selections {
    /// The lock is held for a few pointers only: how long a peer's list is must not matter to others.
    fn find(
        &self,
        len: usize,
        same: impl Fn(&Selection) -> bool,
        make: impl FnOnce() -> Selection,
    ) -> Arc<Selection> {
        if len < WORTH_SHARING {
            return Arc::new(make());
        }
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = remembered.into_iter().find(|known| known.names.len() == len && same(known)) {
            return known;
        }
        let made = Arc::new(make());
        if made.missing.is_empty() {
            let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() == REMEMBERED {
                remembered.remove(0);
            }
            remembered.push(made.clone());
        }
        made
    }
}
