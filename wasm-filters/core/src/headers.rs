//! Request headers as bytes, and which bytes may become one.
//!
//! Envoy hands header names in lower case; values hold any bytes. No policy is known here.

/// Name and value pairs, in the order they came. The shape of proxy-wasm's `get_map_bytes`.
pub type HeaderMap = [(String, Vec<u8>)];

/// Every value of `name` (lower case), in order.
pub fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_slice())
}

/// The value of a header that must come at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Single<'a> {
    /// The header is absent.
    Absent,
    /// It came once.
    Once(&'a [u8]),
    /// It came more than once, so nobody can say which value counts.
    Repeated,
}

/// Looks up a header that must come at most once.
pub fn single<'a>(headers: &'a HeaderMap, name: &'a str) -> Single<'a> {
    let mut found = values(headers, name);
    match (found.next(), found.next()) {
        (None, _) => Single::Absent,
        (Some(value), None) => Single::Once(value),
        (Some(_), Some(_)) => Single::Repeated,
    }
}

/// Whether `value` may be sent as a header value that others will trust.
///
/// Stricter than RFC 9110 section 5.5: no control byte at all (tab included), and no space at either end,
/// because a later hop would trim it and read another value.
pub fn is_safe_value(value: &str) -> bool {
    !value.bytes().any(|byte| byte < 0x20 || byte == 0x7f) && !value.starts_with(' ') && !value.ends_with(' ')
}

/// Whether `name` is a header name that a policy may use: a lower-case token (RFC 9110 section 5.6.2), so
/// neither a pseudo-header nor one that can never match Envoy's lower-case names.
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
        })
}

/// Whether two names are the same to an upstream that maps `-` to `_`, as CGI and WSGI servers do.
pub fn is_same_name(name: &str, other: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == other.len() && name.bytes().zip(other.bytes()).all(|(a, b)| fold(a) == fold(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
    }

    #[test]
    fn single_tells_one_from_many() {
        let headers = map(&[("a", b"1"), ("b", b"\xff"), ("b", b"2")]);
        assert_eq!(single(&headers, "a"), Single::Once(b"1"));
        assert_eq!(single(&headers, "b"), Single::Repeated);
        assert_eq!(single(&headers, "c"), Single::Absent);
    }

    #[test]
    fn values_with_control_bytes_or_outer_spaces_are_not_safe() {
        for value in ["a\r\nb", "a\nb", "a\0b", "a\tb", "\u{7f}", " a", "a "] {
            assert!(!is_safe_value(value), "{value:?}");
        }
        for value in ["", "alice", "a b", "späte Grüße", "{\"a\":1}"] {
            assert!(is_safe_value(value), "{value:?}");
        }
    }

    #[test]
    fn pseudo_and_upper_case_names_are_not_valid() {
        for name in ["", ":path", "X-Key", "a b", "a\r", "é"] {
            assert!(!is_valid_name(name), "{name:?}");
        }
        assert!(is_valid_name("x-api-key") && is_valid_name("x_y.z"));
    }

    #[test]
    fn underscore_is_the_same_as_hyphen() {
        assert!(is_same_name("x_consumer-id", "x-consumer-id"));
        assert!(!is_same_name("x-consumer", "x-consumer-id"));
    }
}
