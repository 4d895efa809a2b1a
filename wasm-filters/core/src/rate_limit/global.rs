//! Limits that several Envoys share: taken from leases, or, where nobody can say, as the limit has it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tollgate_filter_config::{GlobalLimit, PlanLimit};

use super::limit::Key;
use crate::bucket::{Bucket, Outcome};
use crate::lease::{Leases, Taken, Terms};

/// Times that a request has tokens asked for: the first call may have brought less than those before it needed.
const MAX_TRIES: u32 = 3;

/// What a limit says of its shared bucket.
#[derive(Debug, Clone)]
pub(super) struct Global {
    terms: Arc<Terms>,
    /// Whether the limit's own bucket counts while nobody can say.
    alone: bool,
}

/// What the shared bucket says.
pub(super) enum Source {
    /// Tokens of a lease, or none for a while.
    Lease(Outcome),
    /// It has to be asked.
    Later,
    /// It is being asked.
    Soon,
    /// It can't be asked.
    Away,
}

/// A request that waits for tokens: its policy, and the keys of its limits as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting<'a> {
    pub(super) policy: Cow<'a, str>,
    pub(super) keys: Vec<Key>,
    tries: u32,
}

impl Global {
    /// The terms of `global`, and the bucket of one Envoy alone: its share of the limit. A request takes `cost`.
    pub fn new(limit: &PlanLimit, cost: u64, global: &GlobalLimit) -> Option<(Self, Bucket)> {
        let percent = u64::from(global.alone_percent.unwrap_or(100));
        let period = Duration::from_millis(limit.period_ms.checked_mul(100)?);
        let burst = (limit.burst.checked_mul(percent)? / 100).max(cost);
        let share = Bucket::new(limit.limit.checked_mul(percent)?, period, burst)?;
        let token = limit.period_ms.checked_mul(1_000_000)?.div_ceil(limit.limit);
        let lease = global.lease_ms.checked_mul(1_000_000)?;
        let (policy, burst) = (limit.name.clone(), limit.burst);
        let terms = Arc::new(Terms { policy, token, burst, cost, lease });
        Some((Self { terms, alone: global.alone_percent.is_some() }, share))
    }

    /// Takes what a request costs; `waited` says that it asked before.
    pub fn take(&self, key: &[u8], leases: Option<&mut Leases>, now: u64, waited: bool) -> Source {
        let taken = leases.map(|leases| match waited {
            true => leases.take_again(key, &self.terms, now),
            false => leases.take(key, &self.terms, now),
        });
        match taken {
            Some(Taken::Token(outcome) | Taken::Over(outcome)) => Source::Lease(outcome),
            Some(Taken::Wait) => Source::Later,
            Some(Taken::StillWait) => Source::Soon,
            Some(Taken::Away) | None => Source::Away,
        }
    }

    /// Whether this Envoy counts alone while the shared bucket can't be asked.
    pub fn counts_alone(&self) -> bool {
        self.alone
    }
}

impl<'a> Waiting<'a> {
    /// A request that has not waited yet.
    pub(super) fn first(policy: &'a str) -> Self {
        Self { policy: Cow::Borrowed(policy), keys: Vec::new(), tries: 0 }
    }

    /// Whether it asked before.
    pub(super) fn waited(&self) -> bool {
        self.tries > 0
    }

    /// Whether it may ask once more.
    pub(super) fn may_ask(&self) -> bool {
        self.tries < MAX_TRIES
    }

    /// It waits; `asks` says that it asked anew.
    pub(super) fn again(self, asks: bool) -> Waiting<'static> {
        let policy = Cow::Owned(self.policy.into_owned());
        Waiting { policy, keys: self.keys, tries: self.tries.saturating_add(u32::from(asks)) }
    }
}
