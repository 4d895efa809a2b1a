//! What guards a route: a policy, and what is required beyond it, by name and as they are.

use tollgate_filter_config::OnFailure;

use super::policy::{Policy, Provider};
use super::refusal::Refusal;
use super::requirement::Requirement;

/// Who may take a route, by the names that its policies text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard<'a> {
    /// The policy.
    pub policy: &'a str,
    /// What is required beyond it.
    pub requirement: Option<&'a str>,
}

impl<'a> From<&'a str> for Guard<'a> {
    /// The policy of this name, and nothing beyond it.
    fn from(policy: &'a str) -> Self {
        Self { policy, requirement: None }
    }
}

/// A policy, and what the route requires beyond it.
#[derive(Clone, Copy)]
pub(super) struct Gate<'a> {
    pub guard: Guard<'a>,
    pub policy: &'a Policy,
    pub requirement: Option<&'a Requirement>,
}

impl<'a> Gate<'a> {
    /// Whether a request that is refused for this goes on, as nobody's.
    pub fn lets_pass(&self, refusal: &Refusal) -> bool {
        let open = self.policy.on_failure == OnFailure::Allow && self.requirement.is_none();
        open && matches!(refusal, Refusal::Unavailable(..))
    }

    /// That a provider's credential decided.
    pub fn decided_by(&self, provider: usize) -> Option<(&'a Policy, &'a Provider)> {
        Some((self.policy, self.policy.providers.get(provider)?))
    }
}
