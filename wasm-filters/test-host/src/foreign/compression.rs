//! Envoy's `compress` and `uncompress`: zlib (RFC 1950) at its default level, from bytes to bytes.
//!
//! What is compressed here is uncompressed there and the other way round; the compressed bytes may differ, as they
//! may between two versions of zlib.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};

use crate::abi::Status;

pub(crate) fn compress(bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let mut out = Vec::new();
    let read = ZlibEncoder::new(bytes, Compression::default()).read_to_end(&mut out);
    read.map(|_| out).map_err(|_| Status::SerializationFailure)
}

/// Bytes that are no zlib stream, and what would not fit into `limit` bytes of memory, cannot be uncompressed.
pub(crate) fn uncompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Status> {
    let mut out = Vec::new();
    let read = ZlibDecoder::new(bytes).take(limit as u64 + 1).read_to_end(&mut out);
    match read {
        Ok(length) if length <= limit => Ok(out),
        _ => Err(Status::SerializationFailure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_is_read_back_and_what_is_not_is_refused() {
        let text = b"again and again and again and again".repeat(100);
        let small = compress(&text).expect("compressed");
        assert!(small.len() < text.len() / 10);
        assert_eq!(uncompress(&small, text.len()), Ok(text.clone()));
        assert_eq!(uncompress(&small, text.len() - 1), Err(Status::SerializationFailure));
        assert_eq!(uncompress(&small[..small.len() / 2], 1 << 20), Err(Status::SerializationFailure));
        assert_eq!(uncompress(b"a", 1 << 20), Err(Status::SerializationFailure));
    }
}
