//! A token bucket over time alone: for what waits its turn, and for what is refused when it comes too often.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// So many at once, then so many a second.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Duration,
    credit: Duration,
    /// When the bucket is full again.
    full: Instant,
}

impl Pace {
    pub fn new(per_second: u32, burst: u32) -> Pace {
        let gap = Duration::from_secs(1) / per_second.max(1);
        Pace { gap, credit: gap * burst.max(1), full: Instant::now() }
    }

    /// Takes a token, there or not.
    pub fn take(&mut self) {
        self.full = self.full.max(Instant::now()) + self.gap;
    }

    /// Takes a token if there is one.
    pub fn try_take(&mut self) -> bool {
        let there = self.until_ready().is_none();
        if there {
            self.take();
        }
        there
    }

    /// Takes a token, and says until when to wait for it. Whoever comes later waits longer.
    pub fn take_turn(&mut self) -> Option<Instant> {
        let ready = self.until_ready();
        self.take();
        ready
    }

    /// Whether nothing was taken lately, so that a new bucket would be the same.
    pub fn is_full(&self) -> bool {
        self.full <= Instant::now()
    }

    /// Waits for a token, then for `message`. Cancel safe if `message` is.
    pub async fn then<T>(&self, message: impl Future<Output = T>) -> T {
        if let Some(ready) = self.until_ready() {
            tokio::time::sleep_until(ready).await;
        }
        message.await
    }

    /// Until when there is no token.
    fn until_ready(&self) -> Option<Instant> {
        let ready = (self.full.max(Instant::now()) + self.gap).checked_sub(self.credit)?;
        (ready > Instant::now()).then_some(ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_past_the_burst_wait_for_their_turn() {
        let mut pace = Pace::new(10, 3);
        let start = Instant::now();
        for _ in 0..3 {
            pace.then(async {}).await;
            pace.take();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        pace.then(async {}).await;
        assert_eq!(start.elapsed().as_millis(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_past_the_burst_come_one_after_the_other() {
        let mut pace = Pace::new(10, 2);
        let start = Instant::now();
        let turns: Vec<_> = (0..4).map(|_| pace.take_turn().map(|turn| (turn - start).as_millis())).collect();
        assert_eq!(turns, [None, None, Some(100), Some(200)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_costs_no_token() {
        let mut pace = Pace::new(10, 2);
        let taken: Vec<bool> = (0..5).map(|_| pace.try_take()).collect();
        assert_eq!(taken, [true, true, false, false, false]);
        assert!(!pace.is_full());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(pace.try_take() && !pace.try_take());
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(pace.is_full());
    }
}
