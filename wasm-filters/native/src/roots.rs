//! The configurations of a worker, and when each is to tick.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Of a configuration that needs no tick.
pub const NEVER: u64 = u64::MAX;

struct Root {
    /// Should it be needed again; workers share it.
    json: Arc<[u8]>,
    due: u64,
}

/// The configurations of a worker, by number.
#[derive(Default)]
pub struct Roots(BTreeMap<u32, Root>);

impl Roots {
    /// One is being taken.
    pub fn add(&mut self, root: u32, json: Arc<[u8]>) {
        self.0.insert(root, Root { json, due: NEVER });
    }

    /// One ended.
    pub fn remove(&mut self, root: u32) {
        self.0.remove(&root);
    }

    /// Whether that is one.
    pub fn contains(&self, root: u32) -> bool {
        self.0.contains_key(&root)
    }

    /// Whether that is the only one.
    pub fn is_last(&self, root: u32) -> bool {
        self.0.len() == 1 && self.contains(root)
    }

    /// All of them.
    pub fn all(&self) -> Vec<(u32, Arc<[u8]>)> {
        self.0.iter().map(|(root, it)| (*root, Arc::clone(&it.json))).collect()
    }

    /// When the next tick is; [`NEVER`] where there is none.
    pub fn due(&self) -> u64 {
        self.0.values().map(|root| root.due).min().unwrap_or(NEVER)
    }

    /// Has one tick after `period`; whether that is before all others.
    pub fn tick_after(&mut self, root: u32, now: u64, period: Duration) -> bool {
        let next = self.due();
        let Some(root) = self.0.get_mut(&root) else { return false };
        root.due = now.saturating_add(u64::try_from(period.as_nanos()).unwrap_or(NEVER));
        root.due < next
    }

    /// Those whose ticks are due. A tick itself says when the next is.
    pub fn take_due(&mut self, now: u64) -> Vec<u32> {
        let due = self.0.iter_mut().filter(|(_, root)| root.due <= now);
        due.map(|(number, root)| {
            root.due = NEVER;
            *number
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_due_once_until_it_says_when_the_next_is() {
        let mut roots = Roots::default();
        assert_eq!(roots.due(), NEVER);
        roots.add(1, Arc::default());
        roots.add(2, Arc::default());
        assert!(roots.tick_after(1, 100, Duration::from_nanos(50)), "before all others");
        assert!(!roots.tick_after(2, 100, Duration::from_nanos(60)));
        assert!(!roots.tick_after(3, 100, Duration::ZERO), "there is none");
        assert_eq!(roots.due(), 150);
        assert!(roots.take_due(149).is_empty());
        assert_eq!(roots.take_due(150), [1]);
        assert!(roots.take_due(150).is_empty(), "a busy worker is not told twice");
        assert_eq!(roots.take_due(u64::MAX - 1), [2]);
        assert!(roots.tick_after(1, u64::MAX - 1, Duration::MAX) || roots.due() == NEVER);
    }

    #[test]
    fn the_last_one_is_known() {
        let mut roots = Roots::default();
        roots.add(1, Arc::default());
        roots.add(2, Arc::default());
        assert!(!roots.is_last(1));
        roots.remove(2);
        assert!(roots.is_last(1) && !roots.is_last(2));
    }
}
