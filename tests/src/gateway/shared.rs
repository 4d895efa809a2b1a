//! One gateway for the tests of a module, since starting four servers takes longer than most tests.

use std::{ops::Deref, sync::OnceLock, thread};

use anyhow::Result;

use super::Gateway;

/// A gateway that the first test starts, and that lives as long as the run.
#[derive(Debug)]
pub struct Shared {
    start: fn() -> Result<Gateway>,
    gateway: OnceLock<Result<Gateway, String>>,
}

impl Shared {
    /// Nothing is started yet.
    pub const fn new(start: fn() -> Result<Gateway>) -> Self {
        Self { start, gateway: OnceLock::new() }
    }

    /// The gateway. Panics where it did not start, in every test alike and without trying again.
    #[expect(clippy::panic, reason = "a test without its servers has failed")]
    pub fn get(&'static self) -> Observed {
        match self.gateway.get_or_init(|| (self.start)().map_err(|why| format!("{why:#}"))) {
            Ok(gateway) => Observed(gateway),
            Err(why) => panic!("the gateway did not start: {why}"),
        }
    }
}

/// A shared gateway in the hands of one test: shows the servers if that test fails.
#[derive(Debug)]
pub struct Observed(&'static Gateway);

impl Deref for Observed {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        self.0
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.0.report());
        }
    }
}
