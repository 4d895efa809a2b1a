//! The leases of one key. Not which keys there are, nor the calls (`lease`).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Terms, Tokens, sizing};
use crate::bucket::Outcome;

/// Tokens of one grant.
#[derive(Debug, Clone, Copy, Default)]
struct Grant {
    tokens: u64,
    /// When it was asked for.
    from: u64,
    /// When it is over.
    until: u64,
}

/// Whether the service is being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Idle,
    /// In the next call.
    Due,
    /// In a call that is under way.
    Asked,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub key: Rc<[u8]>,
    pub terms: Arc<Terms>,
    pub stage: Stage,
    /// Tokens that requests did not find since the service was last asked.
    pub waiting: u64,
    /// Tokens of leases that are over, to be given back.
    pub left: u64,
    pub unknown_until: u64,
    /// The one that ends first is first.
    grants: [Grant; 2],
    /// Tokens held when the last grant came.
    size: u64,
    /// Tokens taken since the service was last asked.
    used: u64,
    asked: Option<u64>,
    /// Until when the key is over its limit.
    over_until: u64,
    /// When the bucket has a token again, as the service said.
    retry_at: u64,
    /// In the shared bucket, when the service last said.
    remaining: u64,
    last_use: u64,
}

impl Entry {
    pub fn new(key: Rc<[u8]>, terms: Arc<Terms>) -> Self {
        Self {
            key,
            terms,
            stage: Stage::Idle,
            waiting: 0,
            left: 0,
            unknown_until: 0,
            grants: [Grant::default(); 2],
            size: 0,
            used: 0,
            asked: None,
            over_until: 0,
            retry_at: 0,
            remaining: 0,
            last_use: 0,
        }
    }

    /// Ends the leases that are over at `now`, or from another time: the clock went back.
    pub fn begin(&mut self, now: u64) {
        for grant in &mut self.grants {
            if grant.tokens > 0 && !(grant.from..grant.until).contains(&now) {
                self.left = self.left.saturating_add(grant.tokens);
                *grant = Grant::default();
            }
        }
    }

    /// Ends all leases.
    pub fn abandon(&mut self) {
        for grant in &mut self.grants {
            self.left = self.left.saturating_add(std::mem::take(grant).tokens);
        }
    }

    /// Ends all leases if they hold too few tokens for one request: what goes back.
    pub fn give_up(&mut self) -> Option<Tokens> {
        if self.held() >= self.terms.cost {
            return None;
        }
        self.abandon();
        self.take_left()
    }

    /// What is to be given back, once.
    pub fn take_left(&mut self) -> Option<Tokens> {
        let tokens = std::mem::take(&mut self.left);
        (tokens > 0).then(|| Tokens { terms: Arc::clone(&self.terms), key: Rc::clone(&self.key), tokens })
    }

    /// Takes what a request costs, all or nothing, after [`Self::begin`].
    pub fn take(&mut self, now: u64) -> bool {
        self.last_use = now;
        let cost = self.terms.cost;
        if self.held() < cost {
            return false;
        }
        let mut missing = cost;
        for grant in &mut self.grants {
            let taken = grant.tokens.min(missing);
            grant.tokens -= taken;
            missing -= taken;
        }
        self.used = self.used.saturating_add(cost);
        true
    }

    /// Puts back what a request took at the same `now`: to the lease that ends first, so that none lasts longer for it.
    pub fn put_back(&mut self, now: u64) {
        let cost = self.terms.cost;
        self.used = self.used.saturating_sub(cost);
        let live = self.grants.iter_mut().filter(|grant| (grant.from..grant.until).contains(&now));
        match live.min_by_key(|grant| grant.until) {
            Some(grant) => grant.tokens = grant.tokens.saturating_add(cost),
            None => self.left = self.left.saturating_add(cost),
        }
    }

    pub fn tokens(&mut self, now: u64) -> u64 {
        self.begin(now);
        self.held()
    }

    fn held(&self) -> u64 {
        self.grants.iter().map(|grant| grant.tokens).sum()
    }

    pub fn is_low(&self) -> bool {
        let held = self.held();
        held <= self.size / 4 || held < self.terms.cost
    }

    pub fn is_over(&self, now: u64) -> bool {
        // Further ahead than it is ever put: the clock went back.
        now < self.over_until && self.over_until.saturating_sub(now) <= sizing::LONGEST_PAUSE
    }

    pub fn is_unknown(&self, now: u64) -> bool {
        now < self.unknown_until && self.unknown_until.saturating_sub(now) <= super::UNKNOWN
    }

    /// Whether to remember it.
    pub fn is_in_use(&self, now: u64) -> bool {
        let recent = now.saturating_sub(self.last_use) < self.terms.lease && self.last_use <= now;
        recent || self.stage != Stage::Idle || self.grants.iter().any(|grant| grant.tokens > 0)
    }

    /// How many tokens to ask for; from now on what is used counts anew.
    pub fn ask(&mut self, now: u64) -> u64 {
        let held = self.held();
        let elapsed = self.asked.map(|asked| now.saturating_sub(asked));
        let demand =
            sizing::Demand { used: self.used, elapsed, waiting: self.waiting, held, size: self.size };
        self.asked = Some(now);
        self.used = 0;
        sizing::ask(&self.terms, &demand)
    }

    /// The call is over, however it ended.
    pub fn settle(&mut self) {
        self.stage = Stage::Idle;
        self.waiting = 0;
    }

    pub fn grant(&mut self, tokens: u64, from: u64, until: u64, remaining: u64) {
        let [first, second] = &mut self.grants;
        if first.tokens == 0 {
            std::mem::swap(first, second);
        }
        let grant = Grant { tokens, from, until };
        if first.tokens == 0 {
            *first = grant;
        } else if second.tokens == 0 {
            *second = grant;
        } else {
            // Rare: the earlier end is right for both.
            second.tokens = second.tokens.saturating_add(tokens);
            second.until = second.until.min(until);
        }
        self.size = first.tokens.saturating_add(second.tokens);
        self.remaining = remaining;
        self.over_until = 0;
    }

    pub fn over(&mut self, now: u64, retry_after: Duration) {
        let retry_after = u64::try_from(retry_after.as_nanos()).unwrap_or(u64::MAX);
        self.retry_at = now.saturating_add(retry_after);
        self.over_until = now.saturating_add(sizing::pause(&self.terms, retry_after));
        self.remaining = 0;
    }

    /// What the response says.
    pub fn outcome(&self, allowed: bool, now: u64) -> Outcome {
        let held = self.held();
        let remaining = if allowed { held.saturating_add(self.remaining).min(self.terms.burst) } else { 0 };
        let missing = self.terms.burst.saturating_sub(remaining);
        let retry_after = match allowed {
            true => Duration::ZERO,
            false => Duration::from_nanos(self.retry_at.max(self.over_until).saturating_sub(now)),
        };
        let reset = Duration::from_nanos(missing.saturating_mul(self.terms.token));
        Outcome { allowed, tat: 0, remaining, reset, retry_after }
    }
}
