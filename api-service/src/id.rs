//! Identifiers: UUIDs of version 7, so that they sort by creation time and lists page by id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not a UUID in its hyphenated form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a uuid")]
pub struct NotAnId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one, later in order than all before.
            #[expect(clippy::new_without_default, reason = "a default that differs each time misleads")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Accepts the one spelling that [`fmt::Display`] writes: ids are compared as text elsewhere.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let id = Self(Uuid::try_parse(text).map_err(|_| NotAnId)?);
                if id.to_string() == text { Ok(id) } else { Err(NotAnId) }
            }
        }
    };
}

id!(
    /// An account; the `sub` of its tokens and the consumer of its keys.
    AccountId
);
id!(
    /// An API key: public, unlike the key itself.
    KeyId
);
id!(
    /// A published API.
    ApiId
);
id!(
    /// A session: one log-in and every refresh token that came out of it.
    SessionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_one_spelling_only() {
        let id = AccountId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "alice", &id.to_string().to_uppercase(), &id.to_string().replace('-', "")] {
            assert_eq!(wrong.parse::<AccountId>(), Err(NotAnId), "{wrong}");
        }
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        let ids: Vec<KeyId> = (0..100).map(|_| KeyId::new()).collect();
        assert!(ids.is_sorted());
    }
}
