//! The time, as something that is passed in: tests let fifteen minutes pass without waiting for them.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

/// Where the domain takes the time from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// The operating system's clock.
    pub fn system() -> Self {
        Self::new(OffsetDateTime::now_utc)
    }

    /// Any other source of time.
    pub fn new(source: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// Now, in whole seconds of UTC: what JWT and the store can hold.
    pub fn now(&self) -> OffsetDateTime {
        let now = (self.0)();
        now.replace_nanosecond(0).unwrap_or(now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}
