//! The little DER (ITU-T X.690) that turns JSON Web Keys and signatures into what the host verifies.
//!
//! Of reading, only what was written here. Nothing here checks a key: the host's BoringSSL does, each time it parses one.

/// AlgorithmIdentifier of rsaEncryption (RFC 8017 appendix C): OID 1.2.840.113549.1.1.1, NULL.
const RSA: &[u8] = &[0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
/// AlgorithmIdentifier of id-ecPublicKey on prime256v1 (RFC 5480 section 2.1.1).
const EC_P256: &[u8] =
    &[0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// AlgorithmIdentifier of id-ecPublicKey on secp384r1.
const EC_P384: &[u8] = &[0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22];

/// AlgorithmIdentifier of id-ecPublicKey on secp521r1.
const EC_P521: &[u8] = &[0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x23];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// SubjectPublicKeyInfo (RFC 5280 section 4.1) of an RSA key with big-endian modulus and exponent.
pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = tlv(SEQUENCE, &[unsigned(modulus), unsigned(exponent)].concat());
    spki(RSA, &key)
}

/// SubjectPublicKeyInfo of a P-256 point, uncompressed.
pub fn p256_spki(x: &[u8; 32], y: &[u8; 32]) -> Vec<u8> {
    spki(EC_P256, &[&[4], x.as_slice(), y.as_slice()].concat())
}

/// SubjectPublicKeyInfo of a P-384 point, uncompressed.
pub fn p384_spki(x: &[u8; 48], y: &[u8; 48]) -> Vec<u8> {
    spki(EC_P384, &[&[4], x.as_slice(), y.as_slice()].concat())
}

/// SubjectPublicKeyInfo of a P-521 point, uncompressed.
pub fn p521_spki(x: &[u8; 66], y: &[u8; 66]) -> Vec<u8> {
    spki(EC_P521, &[&[4], x.as_slice(), y.as_slice()].concat())
}

/// ECDSA-Sig-Value (RFC 3279 section 2.2.3) of the `r || s` that JWS uses (RFC 7518 section 3.4), each of `size`
/// bytes; `None` where the length is another.
pub fn ecdsa_signature(raw: &[u8], size: usize) -> Option<Vec<u8>> {
    let (r, s) = raw.split_at_checked(size).filter(|(_, s)| s.len() == size)?;
    Some(tlv(SEQUENCE, &[unsigned(r), unsigned(s)].concat()))
}

/// What a key is of.
#[cfg(not(target_family = "wasm"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Rsa,
    P256,
    P384,
    P521,
}

/// Takes a SubjectPublicKeyInfo that was written here apart again.
#[cfg(not(target_family = "wasm"))]
pub fn parse_spki(spki: &[u8]) -> Option<(KeyKind, &[u8])> {
    let content = value(spki, SEQUENCE)?;
    let kinds =
        [(RSA, KeyKind::Rsa), (EC_P256, KeyKind::P256), (EC_P384, KeyKind::P384), (EC_P521, KeyKind::P521)];
    let (kind, bits) = kinds.iter().find_map(|(id, kind)| Some((*kind, content.strip_prefix(*id)?)))?;
    Some((kind, value(bits, BIT_STRING)?.strip_prefix(&[0])?))
}

/// The content of the one element that `bytes` are.
#[cfg(not(target_family = "wasm"))]
fn value(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (length, rest) = bytes.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (rest.len() == length).then_some(rest)
}

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    // A bit string starts with the number of bits unused in its last byte.
    let key = tlv(BIT_STRING, &[&[0], key].concat());
    tlv(SEQUENCE, &[algorithm, &key].concat())
}

/// A non-negative INTEGER: no leading zeros but the one that keeps the sign bit clear.
fn unsigned(big_endian: &[u8]) -> Vec<u8> {
    let digits = strip_zeros(big_endian);
    match digits.first() {
        None => tlv(INTEGER, &[0]),
        Some(first) if first & 0x80 != 0 => tlv(INTEGER, &[&[0], digits].concat()),
        Some(_) => tlv(INTEGER, digits),
    }
}

/// `bytes` without its leading zeros.
pub fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = Vec::with_capacity(length.saturating_add(6));
    out.push(tag);
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = strip_zeros(&bytes);
            // A usize has at most eight bytes, so this is the long form's count.
            out.push(0x80 | bytes.len() as u8);
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_minimal_and_positive() {
        assert_eq!(unsigned(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0, 0]), [2, 1, 0]);
        assert_eq!(unsigned(&[]), [2, 1, 0]);
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(tlv(4, &[0; 0x7f])[..2], [4, 0x7f]);
        assert_eq!(tlv(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(tlv(4, &[0; 0x100])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn only_64_byte_signatures_become_ecdsa() {
        assert!(ecdsa_signature(&[1; 63], 32).is_none());
        assert!(ecdsa_signature(&[1; 65], 32).is_none());
        assert!(ecdsa_signature(&[], 32).is_none());
        let mut raw = [0; 64];
        raw[31] = 1;
        raw[32] = 0xff;
        let der = ecdsa_signature(&raw, 32).unwrap();
        assert_eq!(der[..8], [0x30, 38, 2, 1, 1, 2, 33, 0]);
        assert_eq!(der[8], 0xff);
    }
}
