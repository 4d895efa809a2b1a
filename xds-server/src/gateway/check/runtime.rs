//! Envoy takes any runtime value, and ignores those that it can't use: they are refused here.

use super::within;
use crate::gateway::model::{Runtime, RuntimeValue};
use crate::gateway::position::join;
use crate::gateway::report::Problem;
use crate::gateway::scalar::Duration;

/// Bytes of a key at most.
const MAX_KEY: usize = 256;
/// Prefixes of keys that are feature flags.
const FLAGS: [&str; 2] = ["envoy.reloadable_features.", "envoy.restart_features."];

/// Less would be mostly heartbeats.
const MIN_TTL: Duration = Duration::from_millis(1_000);

/// How long a group keeps its values.
pub(super) fn ttl(pointer: &str, ttl: Option<Duration>, problems: &mut Vec<Problem>) {
    if ttl.is_some_and(|ttl| ttl < MIN_TTL) {
        problems.push(
            Problem::value(pointer, "this is too short: a heartbeat could come late").help("1s or more"),
        );
    }
}

/// All values of one group.
pub(super) fn check(pointer: &str, runtime: &Runtime, problems: &mut Vec<Problem>) {
    for (key, value) in runtime {
        let pointer = join(pointer, key);
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("`{key}` is no runtime key: 1 to {MAX_KEY} visible ASCII characters");
            problems.push(Problem::key(pointer, message));
            continue;
        }
        if FLAGS.iter().any(|prefix| key.starts_with(prefix)) && !matches!(value, RuntimeValue::Flag(_)) {
            let problem = Problem::value(pointer, format!("`{key}` is a feature flag"));
            problems.push(problem.help("write true or false"));
        } else if let RuntimeValue::Percent(percent) = value {
            let bounds = 0..=percent.denominator.get();
            within(&format!("{pointer}/numerator"), "numerator", percent.numerator, bounds, problems);
        }
    }
}
