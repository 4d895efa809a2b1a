//! Just enough of protobuf's wire format to read the arguments of host functions and write their results.

/// One field: its number and its value.
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Number(u64),
    /// Wire types 1, 3 and 5, which nothing here looks into.
    Other,
    Bytes(&'a [u8]),
}

/// Highest number that a field may have.
const MOST_FIELDS: u64 = (1 << 29) - 1;

/// All fields of a message in order, or `None` where it is not one.
pub(crate) fn fields(mut input: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    // Groups are as old as protobuf, and still skipped by every parser.
    let mut groups = Vec::new();
    while !input.is_empty() {
        let tag = varint(&mut input)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut input)?),
            1 => {
                input = input.get(8..)?;
                Value::Other
            }
            2 => {
                let length = usize::try_from(varint(&mut input)?).ok()?;
                let (bytes, rest) = input.split_at_checked(length)?;
                input = rest;
                Value::Bytes(bytes)
            }
            5 => {
                input = input.get(4..)?;
                Value::Other
            }
            3 => {
                groups.push(tag >> 3);
                Value::Other
            }
            4 if groups.pop() == Some(tag >> 3) => Value::Other,
            _ => return None,
        };
        if tag >> 3 == 0 || tag >> 3 > MOST_FIELDS {
            return None;
        }
        if groups.is_empty() {
            fields.push((tag >> 3, value));
        }
    }
    groups.is_empty().then_some(fields)
}

/// The last value of a bytes or string field: the one that counts.
pub(crate) fn bytes<'a>(fields: &[(u64, Value<'a>)], number: u64) -> Option<&'a [u8]> {
    fields.iter().rev().find_map(|(have, value)| match value {
        Value::Bytes(bytes) if *have == number => Some(*bytes),
        _ => None,
    })
}

/// The last value of a number or bool field.
pub(crate) fn number(fields: &[(u64, Value<'_>)], number: u64) -> Option<u64> {
    fields.iter().rev().find_map(|(have, value)| match value {
        Value::Number(value) if *have == number => Some(*value),
        _ => None,
    })
}

/// Appends a bytes or string field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Appends a bool field.
pub(crate) fn put_bool(out: &mut Vec<u8>, number: u64, value: bool) {
    put_varint(out, number << 3);
    put_varint(out, u64::from(value));
}

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_refuses_what_is_cut_short() {
        let mut message = Vec::new();
        put_bool(&mut message, 1, true);
        put_bytes(&mut message, 2, &[7; 300]);
        put_bytes(&mut message, 2, b"last");
        let read = fields(&message).expect("a message");
        assert_eq!(bytes(&read, 2), Some(b"last".as_slice()));
        assert_eq!(bytes(&read, 1), None);
        assert!(fields(&message[..message.len() - 1]).is_none());
        assert!(fields(&[0xff; 20]).is_none());
    }
}
