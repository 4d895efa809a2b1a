//! The protobuf of Envoy's foreign function `verify_signature`, by hand.
//!
//! Two messages of scalar fields do not pay for a protobuf library in every worker's VM. The shape is that of
//! `envoy.source.extensions.common.wasm.VerifySignatureArguments` and `VerifySignatureResult`.

use super::Hash;

/// Name of the foreign function.
pub const FUNCTION: &str = "verify_signature";

const LENGTH_DELIMITED: u8 = 2;

/// Arguments that ask for `hash` with the algorithm of `key` (SubjectPublicKeyInfo in DER).
pub fn arguments(hash: Hash, key: &[u8], message: &[u8], signature: &[u8]) -> Vec<u8> {
    let hash: &[u8] = match hash {
        Hash::Sha256 => b"sha256",
        Hash::Sha384 => b"sha384",
        Hash::Sha512 => b"sha512",
    };
    let fields = [(1, hash), (2, key), (3, signature), (4, message)];
    // A tag and a length take at most six bytes a field here.
    let size = fields.iter().fold(0_usize, |size, (_, value)| size.saturating_add(value.len() + 6));
    let mut out = Vec::with_capacity(size);
    for (number, value) in fields {
        out.push((number << 3) | LENGTH_DELIMITED);
        push_varint(&mut out, value.len() as u64);
        out.extend_from_slice(value);
    }
    out
}

/// Whether the result says that the signature holds: field 1, a bool, which proto3 leaves out when false.
/// `None` where the bytes are no such message.
pub fn result(bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes;
    let mut holds = false;
    while !rest.is_empty() {
        match read_varint(&mut rest)? {
            0x08 => holds = read_varint(&mut rest)? != 0,
            tag if tag & 7 == u64::from(LENGTH_DELIMITED) => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            tag if tag & 7 == 0 => {
                read_varint(&mut rest)?;
            }
            _ => return None,
        }
    }
    Some(holds)
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arguments_are_the_four_fields() {
        let long = [7; 200];
        let mut expected = b"\x0a\x06sha256\x12\x01k\x1a\x01s\x22\xc8\x01".to_vec();
        expected.extend_from_slice(&long);
        assert_eq!(arguments(Hash::Sha256, b"k", &long, b"s"), expected);
    }

    #[test]
    fn results_are_read() {
        assert_eq!(result(&[]), Some(false));
        assert_eq!(result(&[8, 1]), Some(true));
        assert_eq!(result(&[8, 0]), Some(false));
        assert_eq!(result(b"\x12\x02no"), Some(false));
        assert_eq!(result(b"\x08\x01\x12\x00"), Some(true));
        assert_eq!(result(&[8]), None);
        assert_eq!(result(b"\x12\x09no"), None);
        assert_eq!(result(&[0xff; 12]), None);
    }

    proptest! {
        #[test]
        fn any_result_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = result(&bytes);
        }
    }
}
