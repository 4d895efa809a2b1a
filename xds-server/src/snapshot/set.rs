//! The resources of one type, and what differs between two such sets.
//!
//! The set's version is a sum of one hash a resource, so that adding, changing or removing one resource updates it
//! without reading the others, and so that order does not matter.
//!
//! The map is persistent: a set made by editing another shares all but a path of nodes with it, and comparing the two
//! passes over what they share. So an edit costs what it changes, not what there is, and a client that keeps an old set
//! keeps little else. Differences are remembered by the newer set: a thousand clients that move between the same two
//! sets pay for one comparison.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use xxhash_rust::xxh3::xxh3_128;

use super::Resource;
use super::hosts::Hosts;
use super::selection::Selections;

/// How many older sets one set remembers its difference to. Nearly all clients come from the one before; the rest are
/// slow readers that skipped some.
const REMEMBERED: usize = 8;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An immutable set of resources of one type, unique by name, iterated in name order.
#[derive(Debug)]
pub struct ResourceSet {
    id: u64,
    version: Arc<str>,
    content: Content,
    remembered: Mutex<Vec<(u64, Arc<Changes>)>>,
    pub(super) selections: Selections,
    /// For virtual hosts, once somebody asks by host.
    hosts: OnceLock<Hosts>,
    expiring: OnceLock<Box<[Arc<Resource>]>>,
}

/// What [`ResourceSet`] is made of while it can still change.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    resources: OrdMap<Arc<str>, Arc<Resource>>,
    sum: u128,
    delta_len: usize,
    sotw_len: usize,
    /// Resources with a time to live.
    expiring: usize,
}

/// What one set has that another had not.
#[derive(Debug, Default)]
pub struct Changes {
    /// Added or changed, in name order.
    pub changed: Vec<Arc<Resource>>,
    /// Names that are gone, in order.
    pub removed: Vec<Arc<str>>,
}

impl Changes {
    /// Whether the two sets are the same.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

impl ResourceSet {
    /// 32 hex digits; equal for equal (name, version) pairs in any order.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The resource of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.content.resources.get(name)
    }

    /// All, in name order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.content.resources.values()
    }

    /// All behind `name` in name order; from the first when `None`. Lets a slow reader continue where it stopped
    /// without holding a list of its own.
    pub fn iter_after(&self, name: Option<&Arc<str>>) -> impl Iterator<Item = &Arc<Resource>> {
        let from = name.map_or(Bound::Unbounded, |name| Bound::Excluded(name.clone()));
        self.content.resources.range((from, Bound::Unbounded)).map(|(_, resource)| resource)
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        self.content.resources.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.content.resources.is_empty()
    }

    /// Bytes of all delta frames.
    pub fn delta_len(&self) -> usize {
        self.content.delta_len
    }

    /// Bytes of all state-of-the-world frames.
    pub fn sotw_len(&self) -> usize {
        self.content.sotw_len
    }

    /// Those with a time to live.
    pub fn expiring(&self) -> &[Arc<Resource>] {
        match self.content.expiring {
            0 => &[],
            _ => self.expiring.get_or_init(|| self.iter().filter(|r| r.ttl().is_some()).cloned().collect()),
        }
    }

    /// What this set has that `old` had not, computed once for each pair and shared.
    pub fn changes_since(&self, old: &ResourceSet) -> Arc<Changes> {
        if self.is_same(old) {
            return Arc::default();
        }
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, changes)) = remembered.iter().find(|(id, _)| *id == old.id) {
            return changes.clone();
        }
        let changes = Arc::new(self.compare(old));
        if remembered.len() == REMEMBERED {
            remembered.remove(0);
        }
        remembered.push((old.id, changes.clone()));
        changes
    }

    /// Whether both hold the same names in the same versions.
    pub fn is_same(&self, other: &ResourceSet) -> bool {
        self.id == other.id || (self.content.sum == other.content.sum && self.len() == other.len())
    }

    pub(super) fn new(content: Content) -> ResourceSet {
        ResourceSet {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            version: format!("{:032x}", content.sum).into(),
            content,
            remembered: Mutex::default(),
            selections: Selections::default(),
            hosts: OnceLock::new(),
            expiring: OnceLock::new(),
        }
    }

    /// A part of `whole`, made for one client: it stands for the whole's version.
    pub(super) fn under_version_of(whole: &ResourceSet, content: Content) -> ResourceSet {
        ResourceSet { version: whole.version.clone(), ..ResourceSet::new(content) }
    }

    pub(super) fn hosts(&self) -> &Hosts {
        self.hosts.get_or_init(|| Hosts::new(self.iter()))
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    fn compare(&self, old: &ResourceSet) -> Changes {
        let mut changes = Changes::default();
        for difference in old.content.resources.diff(&self.content.resources) {
            match difference {
                DiffItem::Add(_, new) | DiffItem::Update { new: (_, new), .. } => {
                    changes.changed.push(new.clone());
                }
                DiffItem::Remove(name, _) => changes.removed.push(name.clone()),
            }
        }
        changes
    }
}

impl Default for ResourceSet {
    fn default() -> ResourceSet {
        ResourceSet::new(Content::default())
    }
}

impl Content {
    pub(super) fn insert(&mut self, resource: Arc<Resource>) {
        if self.resources.get(&**resource.name()).is_some_and(|known| Arc::ptr_eq(known, &resource)) {
            // Inserting would part the nodes on its path from those of the set before.
            return;
        }
        self.add(&resource);
        if let Some(replaced) = self.resources.insert(resource.name().clone(), resource) {
            self.subtract(&replaced);
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        let removed = self.resources.remove(name);
        if let Some(resource) = &removed {
            self.subtract(resource);
        }
        removed.is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.resources.len()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.resources.keys()
    }

    fn add(&mut self, resource: &Resource) {
        self.sum = self.sum.wrapping_add(pair_hash(resource));
        self.delta_len += resource.delta_len();
        self.sotw_len += resource.sotw_len();
        self.expiring += usize::from(resource.ttl().is_some());
    }

    fn subtract(&mut self, resource: &Resource) {
        self.sum = self.sum.wrapping_sub(pair_hash(resource));
        self.delta_len -= resource.delta_len();
        self.sotw_len -= resource.sotw_len();
        self.expiring -= usize::from(resource.ttl().is_some());
    }
}

fn pair_hash(resource: &Resource) -> u128 {
    let (name, version) = (resource.name().as_bytes(), resource.version().as_bytes());
    let mut pair = Vec::with_capacity(8 + name.len() + version.len());
    // The length keeps ("a", "bc") and ("ab", "c") apart.
    pair.extend_from_slice(&(name.len() as u64).to_le_bytes());
    pair.extend_from_slice(name);
    pair.extend_from_slice(version);
    xxh3_128(&pair)
}
