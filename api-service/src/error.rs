//! What a use case can answer instead of its result. The edge turns these into HTTP; nothing here knows how.

use crate::store;

/// Why a use case did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value the caller sent breaks a rule.
    #[error("{field} {rule}")]
    Invalid {
        /// Name of the field as the caller knows it.
        field: &'static str,
        /// The rule, as the end of a sentence: `must be …`.
        rule: String,
    },
    /// Wrong e-mail or password. Which of the two is not said.
    #[error("the e-mail or the password is wrong")]
    WrongCredentials,
    /// A token that is unknown, expired, used before or revoked.
    #[error("the token is invalid, expired or revoked")]
    InvalidToken,
    /// The caller is known to the gateway but has no account here.
    #[error("the caller has no account here")]
    NoAccount,
    /// The thing exists and belongs to someone else.
    #[error("only the owner may do this")]
    NotOwner,
    /// There is no such thing, or the caller may not know of it.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// A unique value is in use.
    #[error("the {0} is taken")]
    Taken(store::Unique),
    /// The caller has as many as one may have.
    #[error("there are too many {0}; remove one first")]
    TooMany(&'static str),
    /// A store did not answer as it should.
    #[error("store failed: {0}")]
    Store(#[source] store::BoxError),
    /// Anything else that is our fault.
    #[error("internal error: {0}")]
    Internal(#[source] store::BoxError),
}

impl Error {
    /// An [`Error::Invalid`].
    pub fn invalid(field: &'static str, rule: impl Into<String>) -> Self {
        Self::Invalid { field, rule: rule.into() }
    }

    /// An [`Error::Internal`].
    pub fn internal(cause: impl Into<store::BoxError>) -> Self {
        Self::Internal(cause.into())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Taken(unique) => Self::Taken(unique),
            store::Error::NoAccount => Self::NoAccount,
            store::Error::Full(things) => Self::TooMany(things),
            store::Error::Backend(cause) => Self::Store(cause),
        }
    }
}
