//! Processor time of a process. On a machine where load, proxy and upstream share the cores, it says what a filter
//! costs more surely than requests per second do.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Time that all threads of the process have spent so far, in user and kernel mode (proc_pid_stat(5)).
pub(super) fn time_of(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; behind it are fields 3 and up, of which 14 and 15 are the times.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = times.sum::<Result<u64, _>>().context("no times in /proc/PID/stat")?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}
