//! The few protobuf encoding steps that let finished bytes be put into a message without encoding them again.
//!
//! Only length-delimited fields: all that the discovery messages' envelopes are made of. Bodies are prost's work.

use bytes::BufMut;
use prost::encoding::{encode_varint, encoded_len_varint};

/// Bytes that field `number` with a payload of `len` bytes takes, its key and length included.
pub(crate) fn field_len(number: u32, len: usize) -> usize {
    key_len(number) + encoded_len_varint(len as u64) + len
}

/// Bytes of the key alone.
fn key_len(number: u32) -> usize {
    encoded_len_varint(u64::from(number << 3))
}

/// Writes the key and length of a length-delimited field; its payload is to follow.
pub(crate) fn put_key(number: u32, len: usize, buf: &mut impl BufMut) {
    encode_varint(u64::from(number << 3 | 2), buf);
    encode_varint(len as u64, buf);
}

/// Writes a whole length-delimited field.
pub(crate) fn put_field(number: u32, payload: &[u8], buf: &mut impl BufMut) {
    put_key(number, payload.len(), buf);
    buf.put_slice(payload);
}
