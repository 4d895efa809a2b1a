//! The ABI's encoding of header maps: a count, a table of lengths, then each string with a NUL after it.

use crate::headers::HeaderMap;

/// Encodes a map for the module. An empty map is no bytes at all, as Envoy gives it.
pub(crate) fn encode(map: &HeaderMap) -> Vec<u8> {
    if map.is_empty() {
        return Vec::new();
    }
    let mut bytes = (map.len() as u32).to_le_bytes().to_vec();
    for (name, value) in map.iter() {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
    }
    for text in map.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(text);
        bytes.push(0);
    }
    bytes
}

/// Decodes what a module gave. Lengths that do not fit give an empty map, as in Envoy.
pub(crate) fn decode(bytes: &[u8]) -> HeaderMap {
    pairs(bytes).unwrap_or_default()
}

fn pairs(bytes: &[u8]) -> Option<HeaderMap> {
    let (count, rest) = number(bytes)?;
    let mut text = rest.get(count.checked_mul(8)?..)?;
    let mut lengths = rest;
    let mut next = || -> Option<Vec<u8>> {
        let (length, rest) = number(lengths)?;
        lengths = rest;
        let value = text.get(..length)?.to_vec();
        text = text.get(length + 1..)?;
        Some(value)
    };
    (0..count).map(|_| Some((next()?, next()?))).collect()
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number) as usize, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_reads_what_encode_wrote() {
        for map in [
            HeaderMap::new(),
            HeaderMap::from([("a", "")]),
            HeaderMap::from([(":path".as_bytes(), b"/".as_slice()), (b"x-bin", b"\x00\xff")]),
        ] {
            assert_eq!(decode(&encode(&map)), map);
        }
    }

    #[test]
    fn damaged_bytes_give_an_empty_map() {
        let good = encode(&HeaderMap::from([("name", "value"), ("b", "c")]));
        for length in 0..good.len() {
            let _ = decode(&good[..length]);
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] = 0xff;
            let _ = decode(&bad);
        }
        assert!(decode(&[0xff; 64]).is_empty());
    }
}
