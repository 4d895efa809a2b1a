//! Passwords: their rules, and their hashes (Argon2id, RFC 9106).
//!
//! Hashing is slow and takes 19 MiB on purpose, so it runs off the async threads and only so many at once: a
//! flood of log-ins waits in line instead of taking the memory and processors of everything else.

use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use prometheus::IntCounter;
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::secret::Secret;

/// A password that follows the rules for new ones. None about its letters: length is what counts (NIST SP
/// 800-63B section 5.1.1.2).
pub struct Password(Secret);

impl Password {
    /// Characters at least.
    pub const SHORTEST: usize = 12;
    /// Characters at most: more only buys hashing time.
    pub const LONGEST: usize = 128;

    /// Checks the rules.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a length out of range.
    pub fn new(text: Secret) -> Result<Self, Error> {
        if !(Self::SHORTEST..=Self::LONGEST).contains(&text.expose().chars().count()) {
            let rule = format!("must be {} to {} characters", Self::SHORTEST, Self::LONGEST);
            return Err(Error::invalid("password", rule));
        }
        Ok(Self(text))
    }
}

/// A hash in PHC string format, with its salt and parameters.
#[derive(Debug, Clone)]
pub struct PasswordHash(Secret);

impl PasswordHash {
    /// Takes what [`Self::as_str`] gave.
    pub fn stored(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// What is stored.
    pub fn as_str(&self) -> &str {
        self.0.expose()
    }
}

/// Hashes and checks passwords.
pub struct Passwords {
    argon2: Argon2<'static>,
    at_once: Arc<Semaphore>,
    hashes: IntCounter,
    /// Checked where there is no account, for the time that takes.
    decoy: PasswordHash,
}

impl Passwords {
    /// `at_once` hashes run at a time; `hashes` counts them.
    ///
    /// # Errors
    /// [`Error::Internal`] where the first hash cannot be made.
    pub fn new(at_once: usize, hashes: IntCounter) -> Result<Self, Error> {
        // OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
        let params =
            Params::new(19 * 1024, 2, 1, None).map_err(|error| Error::internal(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy =
            hash(&argon2, &Secret::generate("").map_err(|error| Error::internal(error.to_string()))?)?;
        Ok(Self { argon2, at_once: Arc::new(Semaphore::new(at_once)), hashes, decoy })
    }

    /// The hash of a new password, with a fresh salt.
    ///
    /// # Errors
    /// [`Error::Internal`] where hashing fails.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Error> {
        self.run(move |argon2| hash(argon2, &password.0)).await
    }

    /// Whether the password is the one hashed. `None` is never matched, and takes as long.
    ///
    /// # Errors
    /// [`Error::Internal`] where the stored hash is none.
    pub async fn verify(&self, password: Secret, hash: Option<PasswordHash>) -> Result<bool, Error> {
        // Longer ones cannot have been registered; cut so that they cost no more than the longest.
        let password: String = password.expose().chars().take(Password::LONGEST + 1).collect();
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        let matches = self.run(move |argon2| verify(argon2, &password, &hash)).await?;
        Ok(known && matches)
    }

    /// The permit moves into the closure: a caller that gives up does not free the processor it still uses.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.at_once).acquire_owned().await.map_err(Error::internal)?;
        self.hashes.inc();
        let argon2 = self.argon2.clone();
        let work = move || {
            let result = work(&argon2);
            drop(permit);
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }
}

fn hash(argon2: &Argon2<'_>, password: &Secret) -> Result<PasswordHash, Error> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| Error::internal(error.to_string()))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| Error::internal(error.to_string()))?;
    let hash = argon2.hash_password(password.expose().as_bytes(), &salt);
    let hash = hash.map_err(|error| Error::internal(error.to_string()))?;
    Ok(PasswordHash(Secret::new(hash.to_string())))
}

fn verify(argon2: &Argon2<'_>, password: &str, hash: &PasswordHash) -> Result<bool, Error> {
    let hash =
        argon2::PasswordHash::new(hash.as_str()).map_err(|error| Error::internal(error.to_string()))?;
    match argon2.verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => Err(Error::internal(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(1, IntCounter::new("hashes", "hashes").unwrap()).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::new(Secret::new(text)).unwrap()
    }

    #[test]
    fn length_is_counted_in_characters_not_bytes() {
        assert!(Password::new(Secret::new("å".repeat(11))).is_err());
        assert!(Password::new(Secret::new("å".repeat(12))).is_ok());
        assert!(Password::new(Secret::new("å".repeat(128))).is_ok());
        assert!(Password::new(Secret::new("å".repeat(129))).is_err());
    }

    #[tokio::test]
    async fn hashes_are_argon2id_with_owasp_parameters_and_a_fresh_salt() {
        let passwords = passwords();
        let one = passwords.hash(password("correct horse battery")).await.unwrap();
        let two = passwords.hash(password("correct horse battery")).await.unwrap();
        assert!(one.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.as_str());
        assert_ne!(one.as_str(), two.as_str());
    }

    #[tokio::test]
    async fn only_the_password_hashed_is_matched() {
        let passwords = passwords();
        let hash = passwords.hash(password("correct horse battery")).await.unwrap();
        for (text, matches) in
            [("correct horse battery", true), ("correct horse batterx", false), ("", false)]
        {
            assert_eq!(passwords.verify(Secret::new(text), Some(hash.clone())).await.unwrap(), matches);
        }
    }

    #[tokio::test]
    async fn an_unknown_account_costs_one_hash_like_a_known_one() {
        let passwords = passwords();
        assert!(!passwords.verify(Secret::new("anything at all"), None).await.unwrap());
        assert_eq!(passwords.hashes.get(), 1);
    }
}
