//! Revocations in the order in which they became known, so that whoever knows the first N is told the rest. Pure.
//!
//! A revocation is final: it stays until its time, also where its list no longer has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tollgate_filter_config::{Revoked, RevokedKind};
use tollgate_filter_core::revocations::MAX_ENTRIES;

/// Answers kept at most, as each may be as long as all that was revoked: for those who know nothing, and for those who
/// knew everything before the last change.
const MAX_ANSWERS: usize = 2;

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
    /// What was answered since the last change, by the number from which it tells.
    answers: Vec<(u64, Bytes)>,
}

/// A [`RevocationUpdate`](tollgate_filter_config::RevocationUpdate), borrowed.
#[derive(Serialize)]
struct Update<'a> {
    cursor: String,
    revoked: BTreeMap<&'a str, Vec<(RevokedKind, &'a str, u64)>>,
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
            answers: Vec::new(),
        }
    }

    /// Takes what a list says at `now`, in seconds since 1970.
    pub fn learn(&mut self, list: &str, revoked: Vec<Revoked>, now: u64) -> Learned {
        self.answers.clear();
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
        self.answers.clear();
        self.lists.remove(list);
        self.retain(|(of, _, _), _| **of != *list);
    }

    /// What became known after the cursor, or everything for a cursor of another process, as JSON; `None` where there is
    /// nothing. Encoded once for all who are told the same.
    ///
    /// # Errors
    /// When it can't be encoded.
    pub fn since(&mut self, cursor: &str) -> serde_json::Result<Option<Bytes>> {
        let known = cursor.strip_prefix(&self.epoch).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        if known == Some(self.next) {
            return Ok(None);
        }
        // Cursors before the same entry are told the same.
        let from = self.entries.range(known.unwrap_or(0)..).next().map_or(self.next, |(number, _)| *number);
        if let Some((_, answer)) = self.answers.iter().find(|(number, _)| *number == from) {
            return Ok(Some(answer.clone()));
        }
        let answer = Bytes::from(serde_json::to_vec(&self.update(from))?);
        if self.answers.len() == MAX_ANSWERS {
            self.answers.remove(0);
        }
        self.answers.push((from, answer.clone()));
        Ok(Some(answer))
    }

    /// The same, read.
    #[cfg(test)]
    pub fn told(&mut self, cursor: &str) -> Option<tollgate_filter_config::RevocationUpdate> {
        self.since(cursor).unwrap().map(|answer| serde_json::from_slice(&answer).unwrap())
    }

    fn update(&self, from: u64) -> Update<'_> {
        let mut revoked: BTreeMap<&str, Vec<_>> =
            self.lists.iter().map(|list| (&**list, Vec::new())).collect();
        for ((list, kind, id), until) in self.entries.range(from..).map(|(_, entry)| entry) {
            revoked.entry(list).or_default().push((*kind, &**id, *until));
        }
        Update { cursor: format!("{}-{}", self.epoch, self.next), revoked }
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
    use tollgate_filter_config::RevocationUpdate;

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
        let nothing = journal.told("").unwrap();
        assert_eq!(ids(&nothing), [""; 0], "whoever comes first is given a cursor");
        assert_eq!(journal.told(&nothing.cursor), None);
        assert_eq!(journal.learn("l", vec![key("a", NOW + 9)], NOW).news, 2, "the list itself is news");
        let first = journal.told(&nothing.cursor).unwrap();
        assert_eq!(ids(&first), ["a"]);
        assert_eq!(journal.learn("l", vec![key("a", NOW + 9), key("b", NOW + 9)], NOW).news, 1);
        assert_eq!(ids(&journal.told(&first.cursor).unwrap()), ["b"]);
        let second = journal.told(&nothing.cursor).unwrap();
        assert_eq!(ids(&second), ["a", "b"]);
        assert_eq!(journal.learn("l", vec![], NOW).news, 0, "what was revoked stays");
        assert_eq!(journal.told(&second.cursor), None);
        for other in ["", "0000000000000008-2", "junk", "0000000000000007-x"] {
            assert_eq!(ids(&journal.told(other).unwrap()), ["a", "b"], "{other}");
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
        assert_eq!(journal.told("").unwrap().revoked.into_keys().collect::<Vec<_>>(), ["m"]);
    }

    #[test]
    fn what_was_answered_is_forgotten_with_every_change() {
        const CURSORS: [&str; 2] = ["", "0000000000000007-2"];
        let mut journal = Journal::new(7);
        let changes: [&dyn Fn(&mut Journal); 6] = [
            &|_| {},
            &|journal| _ = journal.learn("l", vec![key("a", NOW + 1), key("b", NOW + 9)], NOW),
            &|journal| _ = journal.learn("m", vec![key("c", NOW + 9)], NOW),
            &|journal| _ = journal.learn("l", vec![key("b", NOW + 10)], NOW),
            &|journal| _ = journal.learn("l", vec![], NOW + 1),
            // Not the one with the first number.
            &|journal| journal.forget("l"),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            change(&mut journal);
            let told = CURSORS.map(|cursor| journal.told(cursor));
            assert_eq!(CURSORS.map(|cursor| journal.told(cursor)), told);
            journal.answers.clear();
            assert_eq!(CURSORS.map(|cursor| journal.told(cursor)), told, "after change {number}");
        }
    }

    #[test]
    fn few_answers_are_kept_whatever_is_asked() {
        let mut journal = Journal::new(7);
        journal.learn("l", (0..9).map(|n| key(&n.to_string(), NOW + 9)).collect(), NOW);
        for known in 0..journal.next {
            let update = journal.told(&format!("{}-{known}", journal.epoch)).unwrap();
            assert_eq!(ids(&update).len() as u64, (journal.next - known).min(9));
            assert!(journal.answers.len() <= MAX_ANSWERS);
        }
    }

    #[test]
    fn of_too_many_those_that_end_first_are_dropped() {
        let mut journal = Journal::new(7);
        let many = (0..MAX_ENTRIES as u64 + 3).map(|n| key(&n.to_string(), NOW + 1 + n));
        let learned = journal.learn("l", many.collect(), NOW);
        assert_eq!(learned.dropped, 3);
        let update = journal.told("").unwrap();
        assert_eq!((ids(&update).len(), ids(&update)[0]), (MAX_ENTRIES, "3"));
    }
}
