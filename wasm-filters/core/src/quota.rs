//! Token buckets that a group of Envoys shares: several tokens at once, exact, in numbers that a Redis script holds too.
//!
//! The Generic Cell Rate Algorithm, as in `bucket`, but on microseconds with a remainder. A token costs `period / tokens`
//! microseconds, which is seldom whole, and a rounding would add up over millions of tokens: so what is left over is kept,
//! in parts of a microsecond. All products stay below 2^53, which is what Redis' numbers (doubles) hold exactly; the
//! script in xds-server does these very sums, and a test compares the two. Where the state is kept is the caller's.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// Tokens of one debit or credit at most. With [`MAX_PER_PERIOD`], it keeps products below 2^53.
pub const MAX_TOKENS: u64 = 1_000_000;
/// Tokens of one period at most.
pub const MAX_PER_PERIOD: u64 = 1_000_000_000;
/// Longest time that a bucket may take to refill, in microseconds: a hundred years.
const MAX_TOLERANCE: u128 = 100 * 365 * 86_400 * 1_000_000;
/// How far a state may lie beyond what the bucket allows before it is taken for broken, or for another limit's: less is
/// what the clocks of two Redis servers differ by when one takes over from the other.
pub const CLOCK_SLACK: u64 = 1_000_000;

/// A point or length of time: microseconds and parts of one. How many parts make a microsecond is the [`Limit`]'s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros {
    /// Whole microseconds.
    pub whole: u64,
    /// Parts of one, fewer than [`Limit::parts`].
    pub parts: u64,
}

/// Rate and size of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Parts of a microsecond that this limit counts in.
    pub parts: u64,
    /// What one token takes to refill.
    pub cost: Micros,
    /// What the whole bucket takes to refill.
    pub tolerance: Micros,
    /// Tokens of a full bucket.
    pub burst: u64,
}

/// How a debit is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debit {
    /// All of the tokens or none: a request that waits for the answer.
    Whole,
    /// As many as there are: a lease.
    UpTo,
}

/// How a bucket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whole tokens in it.
    pub remaining: u64,
    /// Until it is full.
    pub reset: Duration,
    /// Until it holds a token; zero where it does.
    pub retry_after: Duration,
}

impl Limit {
    /// A bucket of `burst` tokens, of which `tokens` come back every `period`. `None` where that is nothing, or more than
    /// the arithmetic holds: 10^9 tokens a period, and a hundred years to refill the bucket.
    pub fn new(tokens: u64, period: Duration, burst: u64) -> Option<Self> {
        let period = u64::try_from(period.as_micros()).ok()?;
        if tokens == 0 || tokens > MAX_PER_PERIOD || period == 0 || burst == 0 {
            return None;
        }
        let common = greatest_common_divisor(tokens, period);
        let (parts, period) = (tokens / common, period / common);
        let whole = u128::from(burst) * u128::from(period) / u128::from(parts);
        if whole > MAX_TOLERANCE {
            return None;
        }
        let left = u128::from(burst) * u128::from(period) % u128::from(parts);
        let tolerance = Micros { whole: u64::try_from(whole).ok()?, parts: u64::try_from(left).ok()? };
        let cost = Micros { whole: period / parts, parts: period % parts };
        Some(Self { parts, cost, tolerance, burst })
    }

    /// Takes up to `tokens` (at most [`MAX_TOKENS`]) at time `now`, in microseconds since the epoch. `full_at` is the
    /// bucket's state, the moment at which it is full; zero where it is not known, and so is full. Returns how many were
    /// taken, and the state to keep.
    pub fn debit(&self, full_at: Micros, now: u64, tokens: u64, how: Debit) -> (u64, Micros) {
        let full_at = self.plausible(full_at, now);
        let base = full_at.max(Micros { whole: now, parts: 0 });
        let Some(there) = self.minus(self.limit_at(now), base) else { return (0, full_at) };
        let affordable =
            u64::try_from(self.in_parts(there) / self.in_parts(self.cost).max(1)).unwrap_or(u64::MAX);
        let taken = match how {
            Debit::UpTo => tokens.min(affordable).min(MAX_TOKENS),
            Debit::Whole if tokens <= affordable.min(MAX_TOKENS) => tokens,
            Debit::Whole => 0,
        };
        match taken {
            0 => (0, full_at),
            _ => (taken, self.plus(base, self.times(taken))),
        }
    }

    /// Puts `tokens` back that were taken and not used. Never makes a bucket more than full.
    pub fn credit(&self, full_at: Micros, now: u64, tokens: u64) -> Micros {
        let full_at = self.plausible(full_at, now);
        self.minus(full_at, self.times(tokens.min(MAX_TOKENS))).unwrap_or_default()
    }

    /// How the bucket stands.
    pub fn standing(&self, full_at: Micros, now: u64) -> Standing {
        let base = self.plausible(full_at, now).max(Micros { whole: now, parts: 0 });
        let there = self.minus(self.limit_at(now), base).unwrap_or_default();
        let remaining = self.in_parts(there) / self.in_parts(self.cost).max(1);
        let until_one = self.minus(self.cost, there).filter(|_| remaining == 0).unwrap_or_default();
        let ceil = |time: Micros| Duration::from_micros(time.whole.saturating_add(u64::from(time.parts > 0)));
        Standing {
            remaining: u64::try_from(remaining).unwrap_or(u64::MAX).min(self.burst),
            reset: ceil(self.minus(base, Micros { whole: now, parts: 0 }).unwrap_or_default()),
            retry_after: ceil(until_one),
        }
    }

    /// The latest state that an empty bucket has at `now`.
    fn limit_at(&self, now: u64) -> Micros {
        self.plus(Micros { whole: now, parts: 0 }, self.tolerance)
    }

    /// Brings a state down to an empty bucket where this limit cannot have written it (the policy was changed, or a clock
    /// went back), else it would refuse for as long as the step was.
    fn plausible(&self, state: Micros, now: u64) -> Micros {
        let state = match state.parts < self.parts {
            true => state,
            false => Micros { whole: state.whole.saturating_add(1), parts: 0 },
        };
        let latest = self.limit_at(now);
        let slack = Micros { whole: latest.whole.saturating_add(CLOCK_SLACK), parts: latest.parts };
        if state > slack { latest } else { state }
    }

    /// What so many tokens take to refill.
    fn times(&self, tokens: u64) -> Micros {
        let parts = tokens.saturating_mul(self.cost.parts);
        let whole = tokens.saturating_mul(self.cost.whole).saturating_add(parts / self.parts);
        Micros { whole, parts: parts % self.parts }
    }

    fn plus(&self, a: Micros, b: Micros) -> Micros {
        let parts = a.parts.saturating_add(b.parts);
        let carry = u64::from(parts >= self.parts);
        let whole = a.whole.saturating_add(b.whole).saturating_add(carry);
        Micros { whole, parts: parts - carry * self.parts }
    }

    /// `None` where it would be below zero.
    fn minus(&self, a: Micros, b: Micros) -> Option<Micros> {
        let borrow = u64::from(a.parts < b.parts);
        let whole = a.whole.checked_sub(b.whole)?.checked_sub(borrow)?;
        Some(Micros { whole, parts: a.parts + borrow * self.parts - b.parts })
    }

    fn in_parts(&self, time: Micros) -> u128 {
        u128::from(time.whole) * u128::from(self.parts) + u128::from(time.parts)
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
