//! Settings of load reports (LRS).

use std::time::Duration;

use clap::Args;

use super::duration;

/// More often than this costs proxies more than it tells.
const SHORTEST: Duration = Duration::from_millis(100);

/// Settings of load reports.
#[derive(Debug, Clone, Args)]
pub struct LoadReporting {
    /// How often proxies are asked to report the load on their clusters; at least 100ms.
    #[arg(long, env = "TOLLGATE_LOAD_REPORT_INTERVAL", default_value = "10s", value_parser = interval)]
    pub load_report_interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        interval if interval < SHORTEST => Err("shorter than 100ms".to_owned()),
        interval => Ok(interval),
    }
}
