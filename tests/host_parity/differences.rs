//! Where the test host is not like Envoy, by name and with the reason, and what is not compared at all.

use crate::{Transcript, cases::Case};

/// A case that differs, and why. One that no longer differs fails the test, as does one that differs and is not here.
pub const DIFFERENCES: &[(&str, &str)] = &[
    ("a CEL expression", "the host evaluates none, and stops the filter instead of giving it a wrong value"),
    (
        "response headers in the log",
        "Envoy adds `server` after the filters, and the host has nothing after them",
    ),
];

/// The lines of a transcript: callbacks, results, and what the client got. Times are left out, as is what else a guest
/// or an SDK logs.
pub fn normal(lines: Vec<String>, client: String, case: &Case) -> Transcript {
    let wanted = ["event: ", "out: ", "queue "];
    let mut transcript: Vec<String> = lines
        .into_iter()
        .filter(|line| wanted.iter().any(|prefix| line.starts_with(prefix)))
        .map(|line| without_times(&line))
        .collect();
    transcript.push(format!("client: {client}"));
    if case.unordered {
        transcript.sort();
        transcript.dedup();
    }
    transcript
}

fn without_times(line: &str) -> String {
    ["[date=", "[x-envoy-upstream-service-time="].iter().fold(line.to_owned(), |line, start| {
        let Some((before, rest)) = line.split_once(start) else { return line };
        let after = rest.split_once(']').map_or("", |(_, after)| after);
        format!("{before}{start}…]{after}")
    })
}
