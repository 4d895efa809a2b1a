//! One table of cases for the auth and the rate-limit filter: configuration, requests, what must come of them. Each is
//! there twice: for the filter's own module, and for the one that holds both.
//!
//! Pure data, so that it can be run twice: by the test host on wasmtime, where time is virtual and every case takes
//! milliseconds, and by a real Envoy, which is the truth. Both send each [`Step`] of a [`Case`], note what the
//! upstream and the client saw ([`Observed`]), and let [`Expect::check`] say whether that is right.
//!
//! ```
//! use std::time::SystemTime;
//!
//! for case in tollgate_filter_cases::cases(SystemTime::now())? {
//!     assert!(!case.steps.is_empty(), "{}", case.name);
//! }
//! # Ok::<(), tollgate_filter_cases::KeyError>(())
//! ```
//!
//! Running them is not in here: no Envoy, no wasmtime, no I/O.

use std::time::{SystemTime, UNIX_EPOCH};

mod auth;
mod case;
mod keys;
mod rate_limit;
mod token;

pub use case::{
    Answer, Case, Config, Expect, INTROSPECTION_AUTHORITY, INTROSPECTION_CLUSTER, INTROSPECTION_PATH,
    Introspected, Observed, Outcome, Route, Seen, Step,
};
pub use keys::{KeyError, Keys};
pub use token::Token;

/// All cases. Tokens are minted around `now`, which must be the time that the filter will read; five minutes later is
/// still good, as no token is closer to a limit.
///
/// # Errors
///
/// A test key cannot be read: a mistake in this crate.
pub fn cases(now: SystemTime) -> Result<Vec<Case>, KeyError> {
    let keys = Keys::load()?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut cases = auth::cases(&keys, now);
    cases.extend(rate_limit::cases());
    let in_one_module: Vec<Case> = cases.iter().map(Case::in_one_module).collect();
    cases.extend(in_one_module);
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_step_has_a_route() {
        let cases = cases(SystemTime::now()).unwrap();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            for step in &case.steps {
                assert!(case.route(step).is_some(), "{}: no route at {}", case.name, step.path);
            }
        }
    }

    #[test]
    fn most_cases_need_no_waiting() {
        let cases = cases(SystemTime::now()).unwrap();
        let quick = cases.iter().filter(|case| case.total_wait().as_secs() < 5).count();
        assert!(quick * 10 > cases.len() * 9, "{quick} of {}", cases.len());
    }
}
