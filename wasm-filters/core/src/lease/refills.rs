//! The calls of one worker's leases, and those that wait for them. Which host makes the calls, and who waits, is the
//! caller's: calls are known by the number that the host gave them.

use std::time::Duration;

use super::{Leases, wire};

/// Time between two looks at leases while nothing is due.
const CALM: Duration = Duration::from_millis(250);
/// Time until a call is made once something is due: what becomes due meanwhile goes with it.
const SOON: Duration = Duration::from_millis(1);

/// Leases with their calls, and `W` for each request that waits.
#[derive(Debug)]
pub struct Refills<W> {
    /// The leases.
    pub leases: Leases,
    /// The host's number of a call, and ours.
    calls: Vec<(u32, u64)>,
    waiting: Vec<W>,
    settled: bool,
    soon: bool,
}

impl<W> Refills<W> {
    /// No calls, nobody waits.
    pub fn new(leases: Leases) -> Self {
        Self { leases, calls: Vec::new(), waiting: Vec::new(), settled: false, soon: false }
    }

    /// A request waits for the next call that is answered.
    pub fn wait(&mut self, waiting: W) {
        self.waiting.push(waiting);
    }

    /// Makes the calls that are due. `send` gives the host's number of a call, or `None` where it can't be made.
    pub fn tick(&mut self, now: u64, timeout: Duration, mut send: impl FnMut(&[u8]) -> Option<u32>) {
        self.soon = false;
        let failures = self.leases.failures();
        // A margin, so that the host says first that a call timed out.
        let overdue = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).saturating_mul(2);
        while let Some(refill) = self.leases.refill(now, overdue) {
            match send(&wire::request(&refill)) {
                Some(number) => self.calls.push((number, refill.id)),
                None => self.leases.failed(refill.id, now),
            }
        }
        self.settled |= self.leases.failures() != failures;
    }

    /// The host says what became of a call: the bytes of the answer, or `None` where it failed. Whether it is one of ours.
    pub fn response(&mut self, number: u32, response: Option<&[u8]>, now: u64) -> bool {
        let Some(index) = self.calls.iter().position(|call| call.0 == number) else { return false };
        let (_, id) = self.calls.swap_remove(index);
        match response.and_then(wire::answers) {
            Some(answers) => self.leases.answered(id, &answers, now),
            None => self.leases.failed(id, now),
        }
        self.settled = true;
        true
    }

    /// Those who should try again: everybody, once a call has ended.
    pub fn ready(&mut self) -> Vec<W> {
        if std::mem::take(&mut self.settled) { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// After a request: when [`Self::tick`] should be called next, if that is sooner than it will be.
    pub fn next_tick(&mut self) -> Option<Duration> {
        let wakes = self.leases.is_due() && !self.soon;
        self.soon |= wakes;
        wakes.then_some(SOON)
    }

    /// After a tick or a response: when the next tick should be; `None` where there is no hurry.
    pub fn after_tick(&mut self) -> Option<Duration> {
        self.soon = self.leases.is_due();
        match (self.soon, self.leases.is_idle()) {
            (true, _) => Some(SOON),
            (false, false) => Some(CALM),
            (false, true) => None,
        }
    }
}
