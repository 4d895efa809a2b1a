//! Daily statistics: how often a consumer called which API, by day.
//!
//! The trait is here, next to its only user, and apart from [`crate::store`]: statistics are the part that
//! moves to a document database, and they refer to nothing.

mod day;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::error::Error;
use crate::id::AccountId;
use crate::page::{Page, PageRequest};
use crate::store;

pub use day::Day;

/// Days a single question covers at most.
pub const LONGEST_RANGE: i64 = 366;
/// Requests one record may stand for. With it no sum can pass 63 bits in the lifetime of the hardware.
pub const MOST_REQUESTS: u64 = 1_000_000;

/// Calls of one kind on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Who called.
    pub consumer: AccountId,
    /// When, in UTC.
    pub day: Day,
    /// Name of the API.
    pub api: String,
    /// Name of the route; empty where it is not known.
    pub route: String,
    /// HTTP status of the answers.
    pub status: u16,
    /// How many.
    pub requests: u64,
}

/// What a caller reports, not yet checked.
#[derive(Debug, Clone, Copy)]
pub struct UsageReport<'a> {
    /// See [`Usage::api`].
    pub api: &'a str,
    /// See [`Usage::route`].
    pub route: Option<&'a str>,
    /// See [`Usage::status`].
    pub status: u16,
    /// See [`Usage::requests`].
    pub requests: u64,
    /// `YYYY-MM-DD`; today where absent.
    pub day: Option<&'a str>,
}

/// One consumer's calls of one API on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DailyTotal {
    /// The day.
    pub day: Day,
    /// Name of the API.
    pub api: String,
    /// All calls.
    pub requests: u64,
    /// Those answered 4xx.
    pub client_errors: u64,
    /// Those answered 5xx.
    pub server_errors: u64,
}

/// Where a page of totals starts: totals are sorted by day, then API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TotalKey {
    /// The day.
    pub day: Day,
    /// Name of the API.
    pub api: String,
}

impl fmt::Display for TotalKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.day, self.api)
    }
}

impl FromStr for TotalKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::invalid("after", "must be the `next` of a page");
        let (day, api) = text.split_once(':').ok_or_else(invalid)?;
        Ok(Self { day: day.parse().map_err(|_| invalid())?, api: name("after", api)? })
    }
}

/// Which totals are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TotalsQuery {
    /// Whose.
    pub consumer: AccountId,
    /// First day.
    pub from: Day,
    /// Last day, included.
    pub to: Day,
    /// Of this API only.
    pub api: Option<String>,
}

/// Keeps counts by day.
#[async_trait]
pub trait DailyStatistics: Send + Sync {
    /// Adds to the count of the same consumer, day, API, route and status; atomically, so nothing is lost.
    async fn record(&self, usage: &Usage) -> store::Result<()>;
    /// Totals by day and API; one more than the limit, so the caller sees whether there are more.
    async fn totals(
        &self,
        query: &TotalsQuery,
        page: &PageRequest<TotalKey>,
    ) -> store::Result<Vec<DailyTotal>>;
}

/// The use cases around statistics.
pub struct StatisticsService {
    statistics: Arc<dyn DailyStatistics>,
    clock: Clock,
}

impl StatisticsService {
    /// Puts the parts together.
    pub fn new(statistics: Arc<dyn DailyStatistics>, clock: Clock) -> Self {
        Self { statistics, clock }
    }

    /// Counts what a consumer did.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is out of range, in the future or older than [`LONGEST_RANGE`].
    pub async fn record(&self, consumer: AccountId, report: UsageReport<'_>) -> Result<(), Error> {
        if !(100..=599).contains(&report.status) {
            return Err(Error::invalid("status", "must be an HTTP status, 100 to 599"));
        }
        if !(1..=MOST_REQUESTS).contains(&report.requests) {
            return Err(Error::invalid("count", format!("must be 1 to {MOST_REQUESTS}")));
        }
        let today = Day::of(self.clock.now());
        let day = parse_day("day", report.day)?.unwrap_or(today);
        if day > today || day < today.back(LONGEST_RANGE) {
            return Err(Error::invalid("day", format!("must be within the last {LONGEST_RANGE} days")));
        }
        let usage = Usage {
            consumer,
            day,
            api: name("api", report.api)?,
            route: report.route.map(|route| name("route", route)).transpose()?.unwrap_or_default(),
            status: report.status,
            requests: report.requests,
        };
        Ok(self.statistics.record(&usage).await?)
    }

    /// The consumer's totals; of the last 30 days where no range is given.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a range that is backwards or longer than [`LONGEST_RANGE`].
    pub async fn totals(
        &self,
        consumer: AccountId,
        from: Option<&str>,
        to: Option<&str>,
        api: Option<&str>,
        page: &PageRequest<TotalKey>,
    ) -> Result<Page<DailyTotal, TotalKey>, Error> {
        let to = parse_day("to", to)?.unwrap_or_else(|| Day::of(self.clock.now()));
        let from = parse_day("from", from)?.unwrap_or_else(|| to.back(29));
        if from > to || from < to.back(LONGEST_RANGE - 1) {
            let rule = format!("must be before `to`, by at most {LONGEST_RANGE} days");
            return Err(Error::invalid("from", rule));
        }
        let api = api.map(|api| name("api", api)).transpose()?;
        let query = TotalsQuery { consumer, from, to, api };
        let totals = self.statistics.totals(&query, page).await?;
        let key = |total: &DailyTotal| TotalKey { day: total.day, api: total.api.clone() };
        Ok(Page::cut(totals, page.limit, key))
    }
}

fn parse_day(field: &'static str, text: Option<&str>) -> Result<Option<Day>, Error> {
    let day = text.map(str::parse).transpose();
    day.map_err(|_| Error::invalid(field, "must be a day like 2026-01-31"))
}

/// Names of APIs and routes as gateways have them: no `:`, which separates them in [`TotalKey`].
fn name(field: &'static str, text: &str) -> Result<String, Error> {
    let valid = (1..=100).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
    if !valid {
        return Err(Error::invalid(field, "must be 1 to 100 letters, digits, '-', '.', '_' or '/'"));
    }
    Ok(text.to_owned())
}
