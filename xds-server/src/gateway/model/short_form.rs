//! Short forms: a plain name where a whole object could stand.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Destination;
use crate::gateway::scalar::Name;

/// `to: api`, or a list of destinations.
pub(super) fn destinations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Destination>, D::Error> {
    struct OneOrMany;

    impl<'de> Visitor<'de> for OneOrMany {
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

    deserializer.deserialize_any(OneOrMany)
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
