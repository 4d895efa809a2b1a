//! Request headers as bytes, and which bytes may become one.
//!
//! Envoy hands header names in lower case; values hold any bytes. No policy is known here.

/// A name and a value.
pub type Header<'a> = (&'a [u8], &'a [u8]);
/// Headers in the order they came.
pub type HeaderMap<'a> = [Header<'a>];

/// Reads headers as the host serializes them: a count, the sizes of each name and value, then these with a NUL after
/// each; numbers are 32 bits, little endian. `None` where the bytes are no such thing.
pub fn decode(bytes: &[u8]) -> Option<Vec<Header<'_>>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (sizes, mut data) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut headers = Vec::with_capacity(count);
    for pair in sizes.chunks_exact(8) {
        let (name, value) = pair.split_first_chunk::<4>()?;
        let name = take(&mut data, u32::from_le_bytes(*name) as usize)?;
        let value = take(&mut data, u32::from_le_bytes(value.try_into().ok()?) as usize)?;
        headers.push((name, value));
    }
    Some(headers)
}

/// Takes `size` bytes and the NUL after them.
fn take<'a>(data: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (taken, rest) = data.split_at_checked(size)?;
    *data = rest.split_first()?.1;
    Some(taken)
}

/// Every value of `name` (lower case), in order.
pub fn values<'h>(headers: &HeaderMap<'h>, name: &str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |(n, _)| *n == name.as_bytes()).map(|(_, value)| *value)
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
pub fn single<'h>(headers: &HeaderMap<'h>, name: &str) -> Single<'h> {
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
pub fn is_same_name(name: &[u8], other: &[u8]) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == other.len() && name.iter().zip(other).all(|(a, b)| fold(a) == fold(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the host makes of headers.
    fn encode(headers: &HeaderMap<'_>) -> Vec<u8> {
        let number = |number: usize| (number as u32).to_le_bytes();
        let mut out = number(headers.len()).to_vec();
        headers.iter().for_each(|(n, v)| out.extend([number(n.len()), number(v.len())].concat()));
        headers.iter().for_each(|(n, v)| out.extend([n, &[0][..], v, &[0]].concat()));
        out
    }

    proptest! {
        #[test]
        fn decode_reads_what_the_host_writes(
            headers in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..9), proptest::collection::vec(any::<u8>(), 0..9)), 0..9),
        ) {
            let headers: Vec<Header<'_>> = headers.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
            let bytes = encode(&headers);
            prop_assert_eq!(decode(&bytes), Some(headers));
            for end in 1..bytes.len() {
                prop_assert_eq!(decode(&bytes[..end]), None);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn no_bytes_are_no_headers() {
        assert_eq!(decode(&[]), Some(Vec::new()));
        assert_eq!(decode(&[0xff; 4]), None);
    }

    #[test]
    fn single_tells_one_from_many() {
        let headers: [Header<'_>; 3] = [(b"a", b"1"), (b"b", b"\xff"), (b"b", b"2")];
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
        assert!(is_same_name(b"x_consumer-id", b"x-consumer-id"));
        assert!(!is_same_name(b"x-consumer", b"x-consumer-id"));
    }
}
