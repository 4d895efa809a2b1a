//! YAML text → JSON value, which the model is read from: serde_yaml would want YAML tags for enums, operators write maps.
//!
//! Says whether a key stands twice, of which a JSON value keeps the last. Where, only `position` knows, and looking for
//! that costs as much as all the rest: nearly no text needs it.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The value of a text, and whether a key stands twice in any of its mappings.
pub(super) fn read(text: &str) -> Result<(Value, bool), serde_yaml::Error> {
    let is_doubled = Cell::new(false);
    let value = Reader(&is_doubled).deserialize(serde_yaml::Deserializer::from_str(text))?;
    Ok((value, is_doubled.get()))
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Cell<bool>);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    /// A text without a document.
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Value, E> {
        Err(E::custom("number out of range"))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Value, E> {
        Err(E::custom("number out of range"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.insert(key, entries.next_value_seed(self)?).is_some() {
                self.0.set(true);
            }
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::position::Positions;

    #[test]
    fn a_text_has_the_value_that_serde_json_reads() {
        let text = "a: [1, -2, 1.5, .nan, yes, true, ~, 'x', \"y\", 18446744073709551615]\nb: &b {c: |\n  d\n}\ne: *b\n1: {}\n";
        for text in [text, "", "x", "a: {b: [}", "a: !t x", "a: 99999999999999999999", "{[a]: 1}", "a: *b"] {
            let expected = serde_yaml::from_str::<Value>(text).ok();
            assert_eq!(read(text).ok().map(|(value, _)| value), expected, "{text}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_noticed_in_any_mapping() {
        for (text, expected) in [
            ("a: 1\nb: {a: 1, c: [{a: 2}]}", false),
            ("a: 1\nb: 2\na: 1", true),
            ("b: {a: 1, c: [{a: 2, \"a\": ~}]}", true),
            ("1: x\n\"1\": y", true),
            ("b: &b {a: 1}\nc: *b", false),
        ] {
            assert_eq!(read(text).unwrap().1, expected, "{text}");
            assert_eq!(!Positions::of(text).1.is_empty(), expected, "{text}");
        }
    }
}
