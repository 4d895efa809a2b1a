//! Token buckets, as the Generic Cell Rate Algorithm (ITU-T I.371) counts them.
//!
//! A bucket is one number, the theoretical arrival time (TAT): the moment at which it is full again. All
//! arithmetic is on nanoseconds since the epoch, and saturates. Where the number is kept is `slots`.

use std::time::Duration;

/// How far a stored TAT may lie beyond what the bucket allows before it is taken for broken. Covers the
/// few microseconds by which workers read the clock one after another.
const CLOCK_SLACK_NS: u64 = 1_000_000_000;

/// Rate and size of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Time that refills one token, in nanoseconds; at least 1.
    emission_interval: u64,
    /// Time that refills the whole bucket, in nanoseconds; at least `emission_interval`.
    burst_tolerance: u64,
}

/// What one request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the request may go on.
    pub allowed: bool,
    /// The TAT to store; equal to the old one where nothing changed.
    pub tat: u64,
    /// Tokens left.
    pub remaining: u64,
    /// Until the bucket is full again.
    pub reset: Duration,
    /// Until a request is allowed again; zero where this one was.
    pub retry_after: Duration,
}

impl Bucket {
    /// A bucket of `burst` tokens, of which `limit` come back every `period`. `None` where `limit`, `period`
    /// or `burst` is 0.
    ///
    /// The interval is rounded up, so that rounding never admits more than was configured: at most one
    /// nanosecond a token.
    pub fn new(limit: u64, period: Duration, burst: u64) -> Option<Self> {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        if limit == 0 || period == 0 || burst == 0 {
            return None;
        }
        let emission_interval = period.div_ceil(limit);
        Some(Self { emission_interval, burst_tolerance: emission_interval.saturating_mul(burst) })
    }

    /// Takes `tokens` from a bucket with this TAT (0: never used, so full) at time `now`, or none.
    ///
    /// A TAT that this bucket cannot have written (the clock went back, or the policy's burst shrank) is
    /// brought down to an empty bucket, else it would refuse for as long as the step was.
    pub fn take(&self, tat: u64, tokens: u64, now: u64) -> Outcome {
        let full_tat = now.saturating_add(self.burst_tolerance);
        let tat = if tat > full_tat.saturating_add(CLOCK_SLACK_NS) { full_tat } else { tat };
        let next = tat.max(now).saturating_add(self.time_of(tokens));
        if next <= full_tat {
            let spent = next.saturating_sub(now);
            Outcome {
                allowed: true,
                tat: next,
                remaining: self.burst_tolerance.saturating_sub(spent) / self.emission_interval,
                reset: Duration::from_nanos(spent),
                retry_after: Duration::ZERO,
            }
        } else {
            Outcome {
                allowed: false,
                tat,
                remaining: 0,
                reset: Duration::from_nanos(tat.saturating_sub(now)),
                retry_after: Duration::from_nanos(next.saturating_sub(full_tat)),
            }
        }
    }

    /// The TAT once `tokens` that were taken are back.
    pub fn give_back(&self, tat: u64, tokens: u64) -> u64 {
        tat.saturating_sub(self.time_of(tokens))
    }

    /// Time that refills so many tokens, in nanoseconds.
    pub fn time_of(&self, tokens: u64) -> u64 {
        self.emission_interval.saturating_mul(tokens)
    }

    /// Tokens that come back in so many nanoseconds.
    pub fn refilled_in(&self, nanos: u64) -> u64 {
        nanos / self.emission_interval
    }

    /// Tokens that it holds at most.
    pub fn size(&self) -> u64 {
        self.burst_tolerance / self.emission_interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn burst_goes_at_once_then_the_rate() {
        let bucket = Bucket::new(10, Duration::from_secs(1), 3).unwrap();
        let now = 100 * SECOND;
        let mut tat = 0;
        for remaining in [2, 1, 0] {
            let outcome = bucket.take(tat, 1, now);
            assert!(outcome.allowed);
            assert_eq!(outcome.remaining, remaining);
            tat = outcome.tat;
        }
        let refused = bucket.take(tat, 1, now);
        assert!(!refused.allowed);
        assert_eq!(refused.tat, tat, "a refused request costs nothing");
        assert_eq!(refused.retry_after, Duration::from_millis(100));
        assert_eq!(refused.reset, Duration::from_millis(300));
        assert!(!bucket.take(tat, 1, now + SECOND / 10 - 1).allowed);
        assert!(bucket.take(tat, 1, now + SECOND / 10).allowed);
    }

    #[test]
    fn empty_policies_are_no_bucket() {
        assert!(Bucket::new(0, Duration::from_secs(1), 1).is_none());
        assert!(Bucket::new(1, Duration::ZERO, 1).is_none());
        assert!(Bucket::new(1, Duration::from_secs(1), 0).is_none());
    }

    #[test]
    fn clock_that_went_back_does_not_lock_out() {
        let bucket = Bucket::new(1, Duration::from_secs(1), 1).unwrap();
        let tat = bucket.take(0, 1, 5000 * SECOND).tat;
        let outcome = bucket.take(tat, 1, 1000 * SECOND);
        assert!(!outcome.allowed);
        assert_eq!(outcome.retry_after, Duration::from_secs(1));
        assert!(bucket.take(outcome.tat, 1, 1001 * SECOND).allowed);
    }

    proptest! {
        #[test]
        fn never_admits_more_than_burst_and_rate(
            limit in 1..1000_u64, period_ms in 1..5000_u64, burst in 1..50_u64,
            steps in proptest::collection::vec(0..50_000_000_u64, 1..400),
        ) {
            let bucket = Bucket::new(limit, Duration::from_millis(period_ms), burst).unwrap();
            let start = 1_700_000_000 * SECOND;
            let (mut now, mut tat, mut admitted) = (start, 0, 0_u128);
            for step in steps {
                now += step;
                let outcome = bucket.take(tat, 1, now);
                tat = outcome.tat;
                admitted += u128::from(outcome.allowed);
                let refilled = u128::from(now - start) * u128::from(limit) / (u128::from(period_ms) * 1_000_000);
                prop_assert!(admitted <= u128::from(burst) + refilled);
                prop_assert!(outcome.allowed == outcome.retry_after.is_zero());
                prop_assert!(outcome.remaining < burst);
            }
        }

        #[test]
        fn waiting_as_told_is_enough(
            limit in 1..1000_u64, period_ms in 1..5000_u64, burst in 1..50_u64, used in 0..100_u64,
        ) {
            let bucket = Bucket::new(limit, Duration::from_millis(period_ms), burst).unwrap();
            let now = 1_700_000_000 * SECOND;
            let mut tat = 0;
            for _ in 0..used {
                tat = bucket.take(tat, 1, now).tat;
            }
            let outcome = bucket.take(tat, 1, now);
            let wait = u64::try_from(outcome.retry_after.as_nanos()).unwrap();
            prop_assert!(outcome.allowed || bucket.take(outcome.tat, 1, now + wait).allowed);
            let full = u64::try_from(outcome.reset.as_nanos()).unwrap();
            prop_assert_eq!(bucket.take(outcome.tat, 1, now + full).remaining, burst - 1);
        }

        #[test]
        fn any_numbers_are_survived(
            limit in any::<u64>(), period in any::<u64>(), burst in any::<u64>(), tat in any::<u64>(), now in any::<u64>(),
        ) {
            if let Some(bucket) = Bucket::new(limit, Duration::from_millis(period), burst) {
                let outcome = bucket.take(tat, 1, now);
                prop_assert!(bucket.take(outcome.tat, 1, now).remaining <= burst);
            }
        }
    }
}
