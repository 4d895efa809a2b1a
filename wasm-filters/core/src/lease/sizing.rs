//! How many tokens to ask for, and how long not to ask. Pure sums.

use super::Terms;
use crate::quota::MAX_TOKENS;

/// Longest time for which a key that is over its limit is not asked for, in nanoseconds: others may give tokens back.
pub(super) const LONGEST_PAUSE: u64 = 1_000_000_000;
/// Shortest time, which is what a call costs anyway, and the longest that a fast limit is polled at.
const POLL: [u64; 2] = [5_000_000, 100_000_000];
/// Requests whose tokens a new key gets beyond those that wait, at most.
const HEADROOM: u64 = 8;
/// By how much an ask may outgrow what was held before.
const GROWTH: u64 = 4;

/// How a key was used since the service was last asked.
pub(super) struct Demand {
    /// Tokens taken.
    pub used: u64,
    /// How long, in nanoseconds. `None`: it is new.
    pub elapsed: Option<u64>,
    /// Tokens that requests wait for.
    pub waiting: u64,
    /// Tokens still held.
    pub held: u64,
    /// Tokens held after the last grant.
    pub size: u64,
}

/// How many tokens to ask for: what half a lease needs at the rate seen, so that a steady key is asked for twice a lease
/// and uses what it has; not more than a quarter of the bucket, so that others get their share; and always enough for
/// those that wait. A key that is new starts small, as most keys of many are seen once.
pub(super) fn ask(terms: &Terms, demand: &Demand) -> u64 {
    let share = (terms.burst / 4).max(terms.cost);
    let headroom = HEADROOM.saturating_mul(terms.cost);
    let wanted = match demand.elapsed {
        None => demand.waiting.saturating_add(headroom.min(terms.burst / 16)),
        Some(elapsed) => {
            let horizon = u128::from(terms.lease / 2);
            // What came in less than a millisecond says little of a second.
            let rate = u128::from(demand.used) * horizon / u128::from(elapsed.max(1_000_000));
            let most = demand.size.max(headroom).saturating_mul(GROWTH);
            let wanted = u64::try_from(rate).unwrap_or(u64::MAX).min(most);
            wanted.saturating_add(demand.waiting).saturating_sub(demand.held)
        }
    };
    wanted.min(share).max(demand.waiting.min(terms.burst)).clamp(terms.cost.clamp(1, MAX_TOKENS), MAX_TOKENS)
}

/// How long a key that got nothing, or less than it asked for, is over its limit: as the service said, but for fast limits
/// a quarter of what the bucket takes to refill, so that a call brings more than a token; and never long, as others may
/// give tokens back.
pub(super) fn pause(terms: &Terms, retry_after: u64) -> u64 {
    let fill = terms.burst.saturating_mul(terms.token);
    let poll = (fill / 4).clamp(POLL[0], POLL[1]);
    retry_after.clamp(poll, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn terms(rate: u64, burst: u64) -> Terms {
        Terms { policy: "p".into(), token: SECOND / rate, burst, cost: 1, lease: 2 * SECOND }
    }

    #[test]
    fn new_keys_start_small_and_steady_keys_are_asked_for_once_a_second() {
        let terms = terms(10_000, 10_000);
        let new = Demand { used: 0, elapsed: None, waiting: 1, held: 0, size: 0 };
        assert_eq!(ask(&terms, &new), 9);
        let steady = Demand { used: 750, elapsed: Some(SECOND * 3 / 4), waiting: 0, held: 250, size: 1_000 };
        assert_eq!(ask(&terms, &steady), 750);
        let surge = Demand { used: 9, elapsed: Some(1_000), waiting: 30, held: 0, size: 9 };
        assert_eq!(ask(&terms, &surge), 66, "four times what was held, and those that wait");
    }

    #[test]
    fn small_buckets_are_not_hoarded() {
        let new = Demand { used: 0, elapsed: None, waiting: 1, held: 0, size: 0 };
        assert_eq!(ask(&terms(1, 1), &new), 1);
        assert_eq!(ask(&terms(10, 10), &new), 1);
        let hot = Demand { used: 10, elapsed: Some(1_000), waiting: 2, held: 0, size: 9 };
        assert_eq!(ask(&terms(10, 10), &hot), 2, "a quarter");
    }

    #[test]
    fn what_is_asked_for_is_enough_for_a_request() {
        let dear = Terms { cost: 5, ..terms(10, 10) };
        let low = Demand { used: 5, elapsed: Some(SECOND), waiting: 0, held: 4, size: 9 };
        assert_eq!(ask(&dear, &low), 5);
        let new = Demand { used: 0, elapsed: None, waiting: 10, held: 0, size: 0 };
        assert_eq!(ask(&dear, &new), 10, "two requests wait");
    }

    #[test]
    fn pauses_are_as_long_as_told_within_bounds() {
        assert_eq!(pause(&terms(100, 100), SECOND / 100), SECOND / 10, "ten tokens are there by then");
        assert_eq!(pause(&terms(100, 1), SECOND / 100), SECOND / 100);
        assert_eq!(pause(&terms(1, 1), SECOND / 2), SECOND / 2);
        assert_eq!(pause(&terms(1, 1), 3_600 * SECOND), SECOND);
    }
}
