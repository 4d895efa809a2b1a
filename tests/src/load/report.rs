//! The account of a load: how many requests, how fast, and which failed why.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Account of a finished load.
#[derive(Debug, Default)]
pub struct Report {
    latencies: Vec<Duration>,
    failures: BTreeMap<String, u64>,
    elapsed: Duration,
}

impl Report {
    /// Requests in all, good and bad.
    pub fn requests(&self) -> u64 {
        self.latencies.len() as u64 + self.failures()
    }

    /// Requests that failed.
    pub fn failures(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Successful requests per second.
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this share of the successful requests did not exceed, `0.99` for p99. Zero where there was none.
    pub fn percentile(&self, share: f64) -> Duration {
        percentile(&self.latencies, share)
    }

    pub(super) fn success(&mut self, latency: Duration) {
        self.latencies.push(latency);
    }

    pub(super) fn failure(&mut self, path: &str, reason: &str) {
        *self.failures.entry(format!("{path}: {reason}")).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        for (reason, count) in other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
    }

    pub(super) fn finish(&mut self, elapsed: Duration) {
        self.latencies.sort_unstable();
        self.elapsed = elapsed;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, failures, elapsed) = (self.requests(), self.failures(), self.elapsed);
        write!(
            f,
            "{requests} requests in {elapsed:.1?}, p99 {:.1?}, {failures} failed",
            self.percentile(0.99)
        )?;
        self.failures.iter().try_for_each(|(reason, count)| write!(f, "\n  {count:5} × {reason}"))
    }
}

/// Of sorted values, the one that this share of them does not exceed.
pub fn percentile<T: Copy + Default>(sorted: &[T], share: f64) -> T {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| percentile(&sorted, share)), [1, 50, 99, 100]);
        assert_eq!(percentile::<u32>(&[], 0.5), 0);
    }
}
