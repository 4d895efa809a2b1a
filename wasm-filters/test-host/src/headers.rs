//! Header maps as Envoy keeps them: multimaps of bytes, with the names Envoy folds.
//!
//! Checking that a value is legal HTTP is not in here: Envoy's codec does it before a filter sees the request.

use std::borrow::Cow;
use std::fmt;

/// Which table of folded names applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    Plain,
    Request,
    Response,
}

/// An ordered multimap of header names to bytes.
///
/// As measured on Envoy 1.40: names are lower case; names that start with `:` come first; adding a name that
/// Envoy keeps in a slot of its own (`authorization`, `content-type`, …) joins the values with a comma instead of
/// adding a second entry, so a client that sends two `Authorization` headers is seen to send one; replacing
/// removes every entry of the name and adds one at the end.
#[derive(Debug, Clone, Default)]
pub struct HeaderMap {
    kind: Kind,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl HeaderMap {
    /// An empty map in which no name is folded, as the headers of a callout are.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn of(kind: Kind) -> Self {
        Self { kind, entries: Vec::new() }
    }

    /// The same entries, folded as this kind of message folds them.
    pub(crate) fn into_kind(self, kind: Kind) -> Self {
        let mut map = Self::of(kind);
        for (name, value) in self.entries {
            map.add(name, value);
        }
        map
    }

    /// First value of `name`: what `proxy_get_header_map_value` returns.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// First value of `name` as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self, name: impl AsRef<[u8]>) -> Option<Cow<'_, str>> {
        self.get(name).map(String::from_utf8_lossy)
    }

    /// Every value of `name`, in order.
    pub fn get_all(&self, name: impl AsRef<[u8]>) -> impl Iterator<Item = &[u8]> {
        let name = name.as_ref().to_ascii_lowercase();
        self.entries.iter().filter(move |(have, _)| *have == name).map(|(_, value)| value.as_slice())
    }

    /// Whether `name` is there.
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.get(name).is_some()
    }

    /// Adds a value, folding it into the one that is there where Envoy does.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        let value = value.as_ref();
        if folds(self.kind, &name)
            && let Some((_, have)) = self.entries.iter_mut().find(|(have, _)| *have == name)
        {
            if !have.is_empty() && !value.is_empty() {
                have.push(b',');
            }
            have.extend_from_slice(value);
            return;
        }
        let at = if name.starts_with(b":") {
            self.entries.iter().take_while(|(have, _)| have.starts_with(b":")).count()
        } else {
            self.entries.len()
        };
        self.entries.insert(at, (name, value.to_vec()));
    }

    /// Replaces every value of `name` with one.
    pub fn replace(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.remove(&name);
        self.add(name, value);
    }

    /// Removes every value of `name`.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        self.entries.retain(|(have, _)| *have != name);
    }

    /// Entries in order: what `proxy_get_header_map_pairs` returns.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// Equal when they hold the same entries in the same order.
impl PartialEq for HeaderMap {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for HeaderMap {}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut map = Self::new();
        map.extend(pairs);
        map
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> Extend<(N, V)> for HeaderMap {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.add(name, value);
        }
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>, const COUNT: usize> From<[(N, V); COUNT]> for HeaderMap {
    fn from(pairs: [(N, V); COUNT]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> From<Vec<(N, V)>> for HeaderMap {
    fn from(pairs: Vec<(N, V)>) -> Self {
        pairs.into_iter().collect()
    }
}

impl fmt::Display for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter()
            .try_for_each(|(name, value)| writeln!(f, "{}: {}", name.escape_ascii(), value.escape_ascii()))
    }
}

/// Names with a slot of their own in request headers, in Envoy 1.40 with every extension linked.
const FOLDED_IN_REQUESTS: &[&str] = &[
    ":authority",
    ":method",
    ":path",
    ":protocol",
    ":scheme",
    "accept",
    "accept-encoding",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
    "te",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
];

/// The same for response headers.
const FOLDED_IN_RESPONSES: &[&str] = &[
    ":status",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "grpc-message",
    "grpc-status",
    "last-modified",
    "location",
    "server",
    "vary",
    "via",
    "x-envoy-upstream-service-time",
    "x-request-id",
];

fn folds(kind: Kind, name: &[u8]) -> bool {
    let table = match kind {
        Kind::Plain => return false,
        Kind::Request => FOLDED_IN_REQUESTS,
        Kind::Response => FOLDED_IN_RESPONSES,
    };
    table.binary_search_by(|have| have.as_bytes().cmp(name)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_names_are_sorted_for_the_search() {
        assert!(FOLDED_IN_REQUESTS.is_sorted());
        assert!(FOLDED_IN_RESPONSES.is_sorted());
    }

    #[test]
    fn names_are_lower_case_and_pseudo_headers_come_first() {
        let map = HeaderMap::from([("X-B", "1"), (":path", "/"), ("X-A", "2"), (":method", "GET")]);
        let names: Vec<&[u8]> = map.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [b":path".as_slice(), b":method", b"x-b", b"x-a"]);
        assert_eq!(map.text("x-A").as_deref(), Some("2"));
    }

    #[test]
    fn a_second_authorization_is_folded_and_a_second_api_key_is_not() {
        let map = HeaderMap::from([
            ("authorization", "a"),
            ("Authorization", "b"),
            ("x-api-key", "c"),
            ("x-api-key", "d"),
        ])
        .into_kind(Kind::Request);
        assert_eq!(map.get("authorization"), Some(b"a,b".as_slice()));
        assert_eq!(map.get_all("x-api-key").collect::<Vec<_>>(), [b"c", b"d"]);
        assert_eq!(map.get("x-api-key"), Some(b"c".as_slice()));
    }

    #[test]
    fn replacing_removes_all_and_adds_at_the_end() {
        let mut map = HeaderMap::from([("a", "1"), ("b", "2"), ("A", "3")]);
        map.replace("A", "4");
        assert_eq!(map, HeaderMap::from([("b", "2"), ("a", "4")]));
    }
}
