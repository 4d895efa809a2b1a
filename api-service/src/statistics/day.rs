//! Calendar days in UTC, written `YYYY-MM-DD`, which also sorts right as text.

use std::fmt;
use std::str::FromStr;

use time::{Date, Duration, Month, OffsetDateTime};

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(Date);

/// The text is not a day as `YYYY-MM-DD`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a day like 2026-01-31")]
pub struct NotADay;

impl Day {
    /// The day that this moment is in.
    pub fn of(moment: OffsetDateTime) -> Self {
        Self(moment.to_offset(time::UtcOffset::UTC).date())
    }

    /// `days` earlier; the earliest day there is where that is out of range.
    pub fn back(self, days: i64) -> Self {
        Self(self.0.saturating_sub(Duration::days(days)))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl FromStr for Day {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Self, NotADay> {
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u16>().ok())?
        };
        let (year, month, day) = (number(4), number(2), number(2));
        let (Some(year), Some(month), Some(day), None) = (year, month, day, parts.next()) else {
            return Err(NotADay);
        };
        let small = |number: u16| u8::try_from(number).map_err(|_| NotADay);
        let month = Month::try_from(small(month)?).map_err(|_| NotADay)?;
        Date::from_calendar_date(year.into(), month, small(day)?).map(Self).map_err(|_| NotADay)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for bad in
            ["", "2026", "2026-02-30", "2026-13-01", "2026-1-1", "2026-01-01-", "+026-01-01", "٢٠٢٦-01-01"]
        {
            assert_eq!(bad.parse::<Day>(), Err(NotADay), "{bad}");
        }
        assert!("2024-02-29".parse::<Day>().is_ok());
    }

    proptest! {
        #[test]
        fn days_survive_being_written_and_read_and_sort_as_text(a in 0..4_000_000_000_i64, b in 0..4_000_000_000_i64) {
            let [a, b] = [a, b].map(|seconds| Day::of(OffsetDateTime::from_unix_timestamp(seconds).unwrap()));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = text.parse::<Day>();
        }
    }
}
