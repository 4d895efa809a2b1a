//! A request whose credentials are not all known yet: what was found of them, and what is still to be asked.
//!
//! Asking is the caller's, deciding is `auth`'s.

use std::rc::Rc;

use tollgate_filter_config::Introspection;

use super::identity::Identity;
use super::refusal::Refusal;
use crate::api_key::{self, KeyHash};

/// A request that waits for introspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub(super) policy: String,
    pub(super) requirement: Option<String>,
    pub(super) provider: usize,
    pub(super) hash: KeyHash,
    pub(super) so_far: SoFar,
    /// Where to ask.
    pub introspection: Introspection,
}

impl Pending {
    /// Body of the call.
    pub fn body(&self) -> String {
        api_key::request_body(&self.hash)
    }
}

/// What is known of a request's credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SoFar {
    /// The good ones, by their provider.
    pub known: Vec<(usize, Rc<Identity>)>,
    /// Those to ask about.
    pub asks: Vec<(usize, KeyHash)>,
    /// One that can't be checked, where the policy lets such pass if the others are good.
    pub failed: Option<(usize, Refusal)>,
    /// Whether one was not known before.
    pub fresh: bool,
}
