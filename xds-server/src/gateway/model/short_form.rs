//! Short forms: a plain name where a whole object could stand.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Destination;
use crate::gateway::scalar::Name;

/// How a short form looks in the JSON Schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[expect(dead_code, reason = "a shape for the schema; values are read by the functions below")]
pub(super) enum OneOrMany<Short, Long> {
    /// Short form.
    One(Short),
    /// Long form.
    Many(Vec<Long>),
}

/// `to: api`, or a list of destinations.
pub(super) fn destinations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Destination>, D::Error> {
    struct NameOrList;

    impl<'de> Visitor<'de> for NameOrList {
        type Value = Vec<Destination>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a cluster's name, or a list such as [{cluster: api, weight: 95}, {cluster: canary, weight: 5}]")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
            let cluster = Name::deserialize(StrDeserializer::new(name))?;
            Ok(vec![Destination { cluster, weight: Destination::weight() }])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(items))
        }
    }

    deserializer.deserialize_any(NameOrList)
}

/// A map whose keys may be written in several ways, such as header names: each may stand there once.
pub(super) fn unique<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + fmt::Debug,
    V: Deserialize<'de>,
{
    struct Unique<K, V>(PhantomData<(K, V)>);

    impl<'de, K: Deserialize<'de> + Ord + fmt::Debug, V: Deserialize<'de>> Visitor<'de> for Unique<K, V> {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of header names")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry()? {
                if let Some((key, _)) = map.get_key_value(&key) {
                    return Err(A::Error::custom(format!("{key:?} stands here twice, but for its case")));
                }
                map.insert(key, value);
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Unique(PhantomData))
}

/// Reads `T` from a string by `FromStr`, or from an object by `Full`.
pub(super) fn text_or_object<'de, D, T, Full>(deserializer: D, expecting: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err = String> + From<Full>,
    Full: Deserialize<'de>,
{
    struct TextOrObject<T, Full>(&'static str, PhantomData<(T, Full)>);

    impl<'de, T: std::str::FromStr<Err = String> + From<Full>, Full: Deserialize<'de>> Visitor<'de>
        for TextOrObject<T, Full>
    {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            Full::deserialize(MapAccessDeserializer::new(map)).map(T::from)
        }
    }

    deserializer.deserialize_any(TextOrObject(expecting, PhantomData))
}
