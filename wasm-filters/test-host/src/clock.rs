//! Virtual time: it stands still until a test moves it, and moving it fires ticks and timeouts in order.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::shared::Shared;

/// The clock of one host, which every VM reads.
pub struct Clock {
    pub(crate) shared: Rc<Shared>,
}

impl Clock {
    /// What filters read.
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.shared.now())
    }

    /// Moves time forward, stopping at every tick and every callout's timeout on the way, so that a filter sees the
    /// times it would have seen.
    ///
    /// # Errors
    ///
    /// The first trap on the way; the clock still arrives.
    pub fn advance(&self, by: Duration) -> Result<(), Error> {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let target = self.shared.elapsed.get().saturating_add(by);
        let mut result = Ok(());
        while let Some((due, vm)) = self.shared.next_due(target) {
            self.shared.elapsed.set(due.max(self.shared.elapsed.get()));
            let fired = self.shared.with(&vm, |vm| {
                vm.fire_due();
                Ok(())
            });
            result = result.and(fired);
        }
        self.shared.elapsed.set(target);
        result
    }

    /// Sets the wall clock (back, too) without firing anything: timers go by a clock that is not set.
    pub fn jump_to(&self, time: SystemTime) {
        self.shared.set_now(nanos(time));
    }
}

/// Nanoseconds since the epoch; times before it are the epoch.
pub(crate) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
