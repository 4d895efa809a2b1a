//! Values that must not reach a log: text wrapped so that `Debug` shows nothing, and their digests.
//!
//! Deliberately no `Serialize` and no `Display` on [`Secret`]: showing one takes a visible `expose()`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A password, token, key or private key in the clear.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A new token: `prefix` and 43 random base-62 characters, which is just over 256 bits. Base 62 because
    /// such a token is selected whole by a double click and needs no escaping anywhere.
    ///
    /// # Errors
    /// The operating system gave no random bytes.
    pub fn generate(prefix: &str) -> Result<Self, getrandom::Error> {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        const LENGTH: usize = 43;
        let mut text = String::with_capacity(prefix.len() + LENGTH);
        text.push_str(prefix);
        while text.len() < prefix.len() + LENGTH {
            let mut bytes = [0; 64];
            getrandom::fill(&mut bytes)?;
            // 248 = 4 · 62: taking larger bytes too would favour the first letters.
            let missing = prefix.len() + LENGTH - text.len();
            let letters = bytes.iter().filter(|byte| **byte < 248).take(missing);
            text.extend(letters.map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
        }
        Ok(Self(text))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored instead of the text. Plain SHA-256 is enough for tokens of 256 random bits; passwords
    /// go through [`crate::accounts::Passwords`].
    pub fn sha256(&self) -> Sha256Hex {
        Sha256Hex(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Hex([u8; 32]);

impl fmt::Display for Sha256Hex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 lower-case hexadecimal digits")]
pub struct NotSha256;

impl FromStr for Sha256Hex {
    type Err = NotSha256;

    fn from_str(text: &str) -> Result<Self, NotSha256> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotSha256);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, NotSha256> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NotSha256),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[redacted]");
    }

    #[test]
    fn sha256_is_the_published_digest() {
        let digest = Secret::new("abc").sha256().to_string();
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn generated_tokens_have_the_prefix_43_base_62_characters_and_differ() {
        let tokens: Vec<Secret> = (0..50).map(|_| Secret::generate("tg_").unwrap()).collect();
        for token in &tokens {
            let random = token.expose().strip_prefix("tg_").unwrap();
            assert_eq!(random.len(), 43);
            assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
        let distinct: std::collections::HashSet<&str> = tokens.iter().map(Secret::expose).collect();
        assert_eq!(distinct.len(), tokens.len());
    }

    proptest! {
        #[test]
        fn digests_survive_being_written_and_read(bytes: [u8; 32]) {
            let digest = Sha256Hex(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        }

        #[test]
        fn reading_a_digest_accepts_only_its_own_spelling(text in "\\PC{0,80}|[0-9a-fA-F]{63,65}") {
            if let Ok(digest) = text.parse::<Sha256Hex>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
