//! Credentials that are refused though they would be good otherwise: what filters were told so far.
//!
//! A request costs one comparison while nothing new was revoked, as an identity remembers that it passed; after that,
//! a look-up in a table of 128-bit hashes. A revocation is final: what was told once counts until its time, whatever is
//! told later. Who tells is not known here.

use std::cell::Cell;

use hashbrown::HashMap;
use tollgate_filter_config::{RevocationUpdate, Revoked, RevokedKind};
use xxhash_rust::xxh3::{Xxh3, Xxh3DefaultBuilder, xxh3_64};

/// Revocations remembered at most; of more, those that count for longest. Their table takes 4 MiB in a VM, 9 while one is
/// learnt that has as many again; the text of a list of that length, and what is read of it, some 20 MiB for that moment.
pub const MAX_ENTRIES: usize = 100_000;

/// Stands for an id. With 128 bits, no two of those that a gateway ever sees are the same; ids are their issuer's, so
/// nobody else chooses them.
type Fingerprint = u128;

/// No state of a list.
const NEVER: u64 = u64::MAX;

/// What a list says of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is not revoked.
    Good,
    /// It is.
    Revoked,
    /// Nobody told of its list yet.
    Unknown,
}

/// What an identity may be refused by.
#[derive(Debug, Clone, Default)]
pub struct Revocable {
    list: u64,
    ids: Vec<Fingerprint>,
    /// The state of all lists that it last passed.
    passed: Cell<u64>,
}

impl Revocable {
    /// By these ids, as the list `list` has them.
    pub fn new<'a>(list: &str, ids: impl IntoIterator<Item = (RevokedKind, &'a str)>) -> Self {
        let ids = ids.into_iter().map(|(kind, id)| fingerprint(list, kind, id)).collect();
        Self { list: xxh3_64(list.as_bytes()), ids, passed: Cell::new(NEVER) }
    }
}

/// What it passed is no part of what it is.
impl PartialEq for Revocable {
    fn eq(&self, other: &Self) -> bool {
        (self.list, &self.ids) == (other.list, &other.ids)
    }
}

impl Eq for Revocable {}

/// All that was revoked.
#[derive(Debug, Default)]
pub struct Revocations {
    /// Until when each counts, in seconds since the epoch.
    entries: HashMap<Fingerprint, u64, Xxh3DefaultBuilder>,
    /// The lists that were told of, be it that nothing is on them; few, as a gateway names them.
    lists: Vec<u64>,
    /// Goes up with every change that may refuse somebody.
    state: u64,
    refused: Cell<u64>,
}

impl Revocations {
    /// Whether a credential is revoked.
    pub fn judge(&self, credential: &Revocable) -> Standing {
        if credential.passed.get() == self.state || credential.ids.is_empty() {
            return Standing::Good;
        }
        if !self.lists.contains(&credential.list) {
            return Standing::Unknown;
        }
        if credential.ids.iter().any(|id| self.entries.contains_key(id)) {
            self.refused.set(self.refused.get().saturating_add(1));
            return Standing::Revoked;
        }
        credential.passed.set(self.state);
        Standing::Good
    }

    /// Learns of what was revoked; `now` is in seconds since the epoch. Tells how many had no room.
    pub fn learn(&mut self, update: &RevocationUpdate, now: u64) -> usize {
        let told = update.revoked.iter().flat_map(|(list, revoked)| revoked.iter().map(move |r| (list, r)));
        for (list, Revoked(kind, id, until)) in told {
            let entry = self.entries.entry(fingerprint(list, *kind, id)).or_insert(0);
            *entry = (*until).max(*entry);
        }
        for list in update.revoked.keys().map(|list| xxh3_64(list.as_bytes())) {
            if !self.lists.contains(&list) {
                self.lists.push(list);
            }
        }
        self.state = self.state.saturating_add(1);
        self.forget(now)
    }

    /// How many credentials were refused since this was last asked.
    pub fn take_refused(&self) -> u64 {
        self.refused.take()
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets what no longer counts, and what there is no room for.
    fn forget(&mut self, now: u64) -> usize {
        self.entries.retain(|_, until| now < *until);
        let excess = self.entries.len().saturating_sub(MAX_ENTRIES);
        if excess > 0 {
            let mut by_time: Vec<(u64, Fingerprint)> =
                self.entries.iter().map(|(id, until)| (*until, *id)).collect();
            by_time.select_nth_unstable(excess);
            for (_, id) in by_time.into_iter().take(excess) {
                self.entries.remove(&id);
            }
        }
        if self.entries.capacity() > self.entries.len().saturating_mul(4) {
            self.entries.shrink_to_fit();
        }
        excess
    }
}

/// Reads what xds-server answers.
///
/// # Errors
/// When it is something else; nothing of it is known then.
pub fn parse(body: &[u8]) -> Result<RevocationUpdate, String> {
    let update: RevocationUpdate = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    // It becomes part of a path.
    let is_cursor = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    match update.cursor.bytes().all(is_cursor) && (1..=64).contains(&update.cursor.len()) {
        true => Ok(update),
        false => Err("the cursor is no word".to_owned()),
    }
}

fn fingerprint(list: &str, kind: RevokedKind, id: &str) -> Fingerprint {
    let mut hash = Xxh3::new();
    hash.update(&(list.len() as u64).to_le_bytes());
    hash.update(list.as_bytes());
    hash.update(&[match kind {
        RevokedKind::ApiKey => 0,
        RevokedKind::Token => 1,
        RevokedKind::Session => 2,
    }]);
    hash.update(id.as_bytes());
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn update(entries: &[(&str, RevokedKind, &str, u64)]) -> RevocationUpdate {
        let mut update = RevocationUpdate::default();
        for (list, kind, id, until) in entries {
            let revoked = Revoked(*kind, (*id).to_owned(), *until);
            update.revoked.entry((*list).to_owned()).or_default().push(revoked);
        }
        update
    }

    fn key(list: &str, id: &str) -> Revocable {
        Revocable::new(list, [(RevokedKind::ApiKey, id)])
    }

    #[test]
    fn a_credential_is_refused_from_when_it_is_told_until_its_time() {
        let mut list = Revocations::default();
        let (revoked, other) = (key("l", "a"), key("l", "b"));
        assert_eq!(list.judge(&revoked), Standing::Unknown, "nothing was told yet");
        assert_eq!(list.learn(&update(&[("l", RevokedKind::ApiKey, "a", NOW + 10)]), NOW), 0);
        for _ in 0..2 {
            assert_eq!(list.judge(&revoked), Standing::Revoked, "also where it passed before");
            assert_eq!(list.judge(&other), Standing::Good);
        }
        assert_eq!(list.take_refused(), 2);
        assert_eq!(list.take_refused(), 0);
        list.learn(&update(&[]), NOW + 9);
        assert_eq!(list.judge(&revoked), Standing::Revoked, "what is told later takes nothing back");
        list.learn(&update(&[]), NOW + 10);
        assert_eq!(list.judge(&revoked), Standing::Good);
        assert!(list.is_empty());
    }

    #[test]
    fn lists_and_kinds_do_not_see_each_other() {
        let mut list = Revocations::default();
        list.learn(&update(&[("l", RevokedKind::Token, "a", NOW + 1)]), NOW);
        assert_eq!(list.judge(&key("l", "a")), Standing::Good);
        let of_m = Revocable::new("m", [(RevokedKind::Token, "a")]);
        assert_eq!(list.judge(&of_m), Standing::Unknown, "nobody told of that list");
        list.learn(&update(&[("m", RevokedKind::Token, "b", NOW + 1)]), NOW);
        assert_eq!(list.judge(&of_m), Standing::Good);
        assert_eq!(list.judge(&Revocable::default()), Standing::Good, "what has no list is never refused");
        let token = [(RevokedKind::Session, "s"), (RevokedKind::Token, "a")];
        assert_eq!(list.judge(&Revocable::new("l", token)), Standing::Revoked, "by either of its ids");
    }

    #[test]
    fn a_longer_time_counts_and_a_shorter_one_does_not() {
        let mut list = Revocations::default();
        for until in [NOW + 5, NOW + 9, NOW + 3] {
            list.learn(&update(&[("l", RevokedKind::ApiKey, "a", until)]), NOW);
        }
        list.learn(&update(&[]), NOW + 8);
        assert_eq!(list.judge(&key("l", "a")), Standing::Revoked);
    }

    #[test]
    fn what_is_no_update_is_refused_whole() {
        let good = r#"{"cursor":"a-1","revoked":{"l":[["api_key","a",5],["session","b",6]]}}"#;
        assert_eq!(parse(good.as_bytes()).unwrap().revoked["l"].len(), 2);
        for bad in [
            "",
            "[]",
            r#"{"cursor":"","revoked":{}}"#,
            r#"{"cursor":"a b","revoked":{}}"#,
            r#"{"cursor":"a","revoked":{"l":[["user","a",5]]}}"#,
            r#"{"cursor":"a","revoked":{"l":[["api_key","a",5],["api_key","b",-5]]}}"#,
            r#"{"cursor":"a","revoked":{"l":[["api_key","a"]]}}"#,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_too_many_those_that_count_for_longest_stay() {
        let mut list = Revocations::default();
        let mut many = RevocationUpdate::default();
        let entries = 0..MAX_ENTRIES as u64 + 7;
        let entries = entries.map(|n| Revoked(RevokedKind::ApiKey, n.to_string(), NOW + 1 + n));
        many.revoked.insert("l".to_owned(), entries.collect());
        assert_eq!(list.learn(&many, NOW), 7);
        assert_eq!(list.len(), MAX_ENTRIES);
        assert_eq!(list.judge(&key("l", "6")), Standing::Good);
        assert_eq!(list.judge(&key("l", "7")), Standing::Revoked);
        list.learn(&update(&[]), NOW * 1_000);
        assert!(list.entries.capacity() < 1_000, "memory goes back");
    }
}
