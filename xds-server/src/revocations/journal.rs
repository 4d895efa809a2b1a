//! Revocations in the order in which they became known, so that whoever knows the first N is told the rest. Pure.
//!
//! A revocation is final: it stays until its time, also where its list no longer has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tollgate_filter_config::{RevocationUpdate, Revoked, RevokedKind};
use tollgate_filter_core::revocations::MAX_ENTRIES;

/// What names a credential: list, kind and id.
type Key = (Arc<str>, RevokedKind, Arc<str>);

/// The journal of one process.
#[derive(Debug)]
pub struct Journal {
    /// Tells its numbers from those of other processes.
    epoch: String,
    next: u64,
    /// By number, with the time until which each counts, in seconds since 1970.
    entries: BTreeMap<u64, (Key, u64)>,
    numbers: HashMap<Key, u64>,
    /// The lists that were read, be it that nothing is on them: of others, nobody knows what was revoked.
    lists: BTreeSet<Arc<str>>,
}

/// What came of learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// So many were not known, or not for so long; and one where the list was not.
    pub news: usize,
    /// So many had no room.
    pub dropped: usize,
}

impl Journal {
    /// Empty. `epoch` is random.
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch: format!("{epoch:016x}"),
            next: 0,
            entries: BTreeMap::new(),
            numbers: HashMap::new(),
            lists: BTreeSet::new(),
        }
    }

    /// Takes what a list says at `now`, in seconds since 1970.
    pub fn learn(&mut self, list: &str, revoked: Vec<Revoked>, now: u64) -> Learned {
        let list: Arc<str> = list.into();
        let mut news = 0;
        if self.lists.insert(Arc::clone(&list)) {
            self.next += 1;
            news += 1;
        }
        for Revoked(kind, id, until) in revoked.into_iter().filter(|Revoked(_, _, until)| now < *until) {
            let key = (Arc::clone(&list), kind, Arc::from(id));
            let known = self.numbers.get(&key).copied();
            if known.and_then(|number| self.entries.get(&number)).is_some_and(|(_, known)| until <= *known) {
                continue;
            }
            if let Some(number) = known {
                self.entries.remove(&number);
            }
            self.numbers.insert(key.clone(), self.next);
            self.entries.insert(self.next, (key, until));
            self.next += 1;
            news += 1;
        }
        self.retain(|_, until| now < until);
        let dropped = self.entries.len().saturating_sub(MAX_ENTRIES);
        if dropped > 0 {
            let mut ends: Vec<(u64, u64)> =
                self.entries.iter().map(|(number, (_, until))| (*until, *number)).collect();
            ends.sort_unstable();
            for (_, number) in ends.into_iter().take(dropped) {
                if let Some((key, _)) = self.entries.remove(&number) {
                    self.numbers.remove(&key);
                }
            }
        }
        Learned { news, dropped }
    }

    /// A list counts no more.
    pub fn forget(&mut self, list: &str) {
        self.lists.remove(list);
        self.retain(|(of, _, _), _| **of != *list);
    }

    /// What became known after the cursor, or everything for a cursor of another process; `None` where there is nothing.
    pub fn since(&self, cursor: &str) -> Option<RevocationUpdate> {
        let known = cursor.strip_prefix(&self.epoch).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        if known == Some(self.next) {
            return None;
        }
        let from = known.unwrap_or(0);
        let lists = self.lists.iter().map(|list| (list.to_string(), Vec::new()));
        let cursor = format!("{}-{}", self.epoch, self.next);
        let mut update = RevocationUpdate { cursor, revoked: lists.collect() };
        for ((list, kind, id), until) in self.entries.range(from..).map(|(_, entry)| entry) {
            let revoked: &mut Vec<Revoked> = match update.revoked.get_mut(&**list) {
                Some(revoked) => revoked,
                None => update.revoked.entry(list.to_string()).or_default(),
            };
            revoked.push(Revoked(*kind, id.to_string(), *until));
        }
        Some(update)
    }

    fn retain(&mut self, stays: impl Fn(&Key, u64) -> bool) {
        let numbers = &mut self.numbers;
        self.entries.retain(|_, (key, until)| {
            let stays = stays(key, *until);
            if !stays {
                numbers.remove(key);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn key(id: &str, until: u64) -> Revoked {
        Revoked(RevokedKind::ApiKey, id.to_owned(), until)
    }

    fn ids(update: &RevocationUpdate) -> Vec<&str> {
        update.revoked.values().flatten().map(|Revoked(_, id, _)| id.as_str()).collect()
    }

    #[test]
    fn who_knows_the_first_is_told_the_rest() {
        let mut journal = Journal::new(7);
        let nothing = journal.since("").unwrap();
        assert_eq!(ids(&nothing), [""; 0], "whoever comes first is given a cursor");
        assert_eq!(journal.since(&nothing.cursor), None);
        assert_eq!(journal.learn("l", vec![key("a", NOW + 9)], NOW).news, 2, "the list itself is news");
        let first = journal.since(&nothing.cursor).unwrap();
        assert_eq!(ids(&first), ["a"]);
        assert_eq!(journal.learn("l", vec![key("a", NOW + 9), key("b", NOW + 9)], NOW).news, 1);
        assert_eq!(ids(&journal.since(&first.cursor).unwrap()), ["b"]);
        let second = journal.since(&nothing.cursor).unwrap();
        assert_eq!(ids(&second), ["a", "b"]);
        assert_eq!(journal.learn("l", vec![], NOW).news, 0, "what was revoked stays");
        assert_eq!(journal.since(&second.cursor), None);
        for other in ["", "0000000000000008-2", "junk", "0000000000000007-x"] {
            assert_eq!(ids(&journal.since(other).unwrap()), ["a", "b"], "{other}");
        }
    }

    #[test]
    fn a_longer_time_is_news_and_what_has_ended_is_forgotten() {
        let mut journal = Journal::new(7);
        assert_eq!(
            journal.learn("l", vec![key("a", NOW), key("b", NOW + 1)], NOW).news,
            2,
            "a has ended, l is new"
        );
        assert_eq!(journal.learn("l", vec![key("b", NOW + 1)], NOW).news, 0);
        assert_eq!(journal.learn("l", vec![key("b", NOW + 5)], NOW).news, 1);
        assert_eq!(journal.entries.len(), 1);
        journal.learn("l", vec![], NOW + 5);
        assert_eq!((journal.entries.len(), journal.numbers.len()), (0, 0));
    }

    #[test]
    fn a_list_that_is_no_longer_named_is_forgotten_alone() {
        let mut journal = Journal::new(7);
        journal.learn("l", vec![key("a", NOW + 9)], NOW);
        journal.learn("m", vec![key("a", NOW + 9)], NOW);
        journal.forget("l");
        assert_eq!(journal.since("").unwrap().revoked.into_keys().collect::<Vec<_>>(), ["m"]);
    }

    #[test]
    fn of_too_many_those_that_end_first_are_dropped() {
        let mut journal = Journal::new(7);
        let many = (0..MAX_ENTRIES as u64 + 3).map(|n| key(&n.to_string(), NOW + 1 + n));
        let learned = journal.learn("l", many.collect(), NOW);
        assert_eq!(learned.dropped, 3);
        let update = journal.since("").unwrap();
        assert_eq!((ids(&update).len(), ids(&update)[0]), (MAX_ENTRIES, "3"));
    }
}
