//! What a process uses. On a machine where load, proxy and upstream share the cores, processor time says what a filter
//! costs more surely than requests per second do.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Time that all threads of the process have spent so far, in user and kernel mode (proc_pid_stat(5)).
pub fn cpu_time_of(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; behind it are fields 3 and up, of which 14 and 15 are the times.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = times.sum::<Result<u64, _>>().context("no times in /proc/PID/stat")?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Resident memory of the process in bytes (VmRSS of proc_pid_status(5)).
pub fn resident_of(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib =
        line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS in /proc/PID/status")?;
    Ok(kib.trim().parse::<u64>().context("VmRSS is no number")? * 1024)
}
