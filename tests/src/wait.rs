//! Waiting for a condition with a deadline: the only way anything here waits. There is no plain sleep.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

/// First pause between two probes; doubles up to [`LONGEST_PAUSE`], so quick things are seen quickly.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Probes until it succeeds and returns what it found. After `deadline`, the error says what was waited for,
/// how long, and why the last probe failed.
pub fn wait_until<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match probe() {
            Ok(found) => return Ok(found),
            Err(why) if started.elapsed() >= deadline => {
                return Err(why.context(format!("waited {deadline:?} for {what}")));
            }
            Err(_) => {}
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// `Ok` where the condition holds: the shortest probe.
pub fn holds(condition: bool) -> Result<()> {
    condition.then_some(()).ok_or_else(|| anyhow!("not yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_was_waited_for_is_returned() {
        let mut left = 3;
        let found = wait_until("three probes", Duration::from_secs(5), || {
            left -= 1;
            holds(left == 0)?;
            Ok("found")
        });
        assert_eq!(found.unwrap(), "found");
    }

    #[test]
    fn a_missed_deadline_says_what_and_why() {
        let missed =
            wait_until("the moon", Duration::from_millis(5), || -> Result<()> { Err(anyhow!("it is day")) });
        let text = format!("{:#}", missed.unwrap_err());
        assert_eq!(text, "waited 5ms for the moon: it is day");
    }
}
