//! Keys as foreign functions get them: one field for DER, another for PEM, and only one of both.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::abi::Status;

/// The key in DER. None at all, both, and a PEM that is none are bad arguments.
pub(super) fn der(der: &[u8], pem: &[u8]) -> Result<Vec<u8>, Status> {
    match (der.is_empty(), pem.is_empty()) {
        (false, true) => Ok(der.to_vec()),
        (true, false) => from_pem(pem).ok_or(Status::BadArgument),
        _ => Err(Status::BadArgument),
    }
}

/// What is between the first pair of `-----BEGIN …-----` and `-----END …-----` (RFC 7468).
fn from_pem(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let mut lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN ")).skip(1);
    let mut body = String::new();
    loop {
        match lines.next()? {
            line if line.starts_with("-----END ") => return STANDARD.decode(body).ok(),
            line => body.push_str(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_and_der_are_the_same_key_and_both_together_are_none() {
        let pem = b"-----BEGIN PUBLIC KEY-----\nAAEC\nAwQF\n-----END PUBLIC KEY-----\n";
        assert_eq!(der(b"", pem), Ok(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(der(b"\0", b""), Ok(vec![0]));
        for (a, b) in [(&b"\0"[..], &pem[..]), (b"", b""), (b"", b"AAEC"), (b"", b"-----BEGIN X-----\nAA")] {
            assert_eq!(der(a, b), Err(Status::BadArgument));
        }
    }
}
