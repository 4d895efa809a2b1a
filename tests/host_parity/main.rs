//! What the test host of the filters (`wasm-filters/test-host`) does, beside what real Envoy does.
//!
//! One guest (`wasm-filters/test-host/guest`) does in both what request headers tell it to, and both transcripts must be
//! the same: callbacks in their order, what host calls returned, and what the client got. Where they differ, the case is
//! named in [`differences`], with the reason. A binary of its own, as nothing else here needs wasmtime.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test, what cannot go on is a failure"
)]

use std::collections::BTreeMap;

mod cases;
mod differences;
mod envoy;
mod host;
mod linking;

/// What there is to tell of one case, line by line.
type Transcript = Vec<String>;

#[test]
fn the_host_does_what_envoy_does_but_for_what_is_listed() {
    let cases = cases::cases();
    let envoy = envoy::RunningEnvoy::start(&cases).unwrap();
    let mut known: BTreeMap<&str, &str> = differences::DIFFERENCES.iter().copied().collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let (here, there) = (host::run(case), envoy.run(case).unwrap());
        let understood = !here.iter().any(|line| line.contains("unknown instruction"));
        assert!(understood, "{}: the guest does not know what it is told", case.name);
        let listed = known.remove(case.name);
        match (here == there, listed) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(why)) => wrong.push(format!("{}: no longer differs, though {why}", case.name)),
            (false, None) => wrong.push(format!("{}:\n{}", case.name, beside(&here, &there))),
        }
    }
    wrong.extend(known.keys().map(|name| format!("{name}: is listed, and no case")));
    eprintln!("{} cases, of which {} differ as listed", cases.len(), differences::DIFFERENCES.len());
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), envoy.report());
}

/// Both transcripts, with a mark before lines that are in one alone.
fn beside(here: &Transcript, there: &Transcript) -> String {
    let side = |name: &str, these: &Transcript, those: &Transcript| {
        let mark = |line: &String| if those.contains(line) { ' ' } else { '!' };
        let lines: String = these.iter().map(|line| format!("  {} {line}\n", mark(line))).collect();
        format!(" {name}:\n{lines}")
    };
    side("host", here, there) + &side("Envoy", there, here)
}
