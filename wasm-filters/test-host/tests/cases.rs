//! Runs the table of filter cases through the filters that Envoy loads, on wasmtime and in virtual time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_filter_cases::{
    Answer, Case, Config, INTROSPECTION_AUTHORITY, INTROSPECTION_CLUSTER, INTROSPECTION_PATH, Introspected,
    Observed, Step, cases,
};
use tollgate_wasm_host::{HeaderMap, Host, Outcome, Plugin, Stream};

use crate::support::built;

mod support;

/// Any time does: it is virtual.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

#[test]
fn auth_cases_hold() {
    hold(&cases(now()).expect("keys"), |case| matches!(case.config, Config::Auth(_)));
}

#[test]
fn rate_limit_cases_hold() {
    hold(&cases(now()).expect("keys"), |case| matches!(case.config, Config::RateLimit(_)));
}

#[test]
fn all_cases_hold_in_one_module() {
    hold(&cases(now()).expect("keys"), |case| matches!(case.config, Config::Gateway(_)));
}

/// The table must be able to fail: a verifier that takes every signature is noticed.
#[test]
fn a_verifier_that_always_says_yes_is_noticed() {
    let yes = || host().foreign_function("verify_signature", |_| Ok(vec![0x08, 0x01]));
    let cases = cases(now()).expect("keys");
    let mut fooled =
        cases.iter().filter(|case| case.name.contains("forged") || case.name.contains("another signature"));
    assert!(fooled.any(|case| run(case, yes()).is_err()));
}

/// Runs all before it fails, as one mistake often shows in many cases.
fn hold(cases: &[Case], wanted: impl Fn(&Case) -> bool) {
    let cases: Vec<&Case> = cases.iter().filter(|case| wanted(case)).collect();
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| run(case, host()).err().map(|why| format!("{}: {why}", case.name)))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

fn host() -> Host {
    Host::new().starting_at(now()).cluster(INTROSPECTION_CLUSTER)
}

fn run(case: &Case, host: Host) -> Result<(), String> {
    let module = built(case.config.module());
    let plugin = host.plugin(&module).vm_id("case").configuration(case.config.json()).start();
    let plugin = plugin.map_err(|error| error.to_string())?;
    for (number, step) in (1..).zip(&case.steps) {
        host.clock().advance(step.wait).map_err(|error| error.to_string())?;
        let observed = send(&plugin, case, step).map_err(|why| format!("step {number}: {why}"))?;
        step.expect.check(&observed).map_err(|why| format!("step {number}: {why}\n{}", plugin.logs()))?;
    }
    Ok(())
}

fn send(plugin: &Plugin, case: &Case, step: &Step) -> Result<Observed, String> {
    let route = case.route(step).ok_or("no route")?;
    let mut request = plugin
        .worker(0)
        .request([(":path", &step.path)])
        .property(["source", "address"], format!("{}:{}", step.client, 40_000 + step.headers.len()))
        .property(["xds", "route_name"], route.full_name());
    for (name, value) in &step.headers {
        request = request.header(name, value.trim_ascii());
    }
    let mut stream = request.send().map_err(|error| error.to_string())?;
    introspect(&stream, step.introspection.as_ref())?;
    let outcome = stream.outcome();
    let upstream = outcome.forwarded().map(|message| fields(&message.headers));
    let response = match outcome {
        Outcome::Continue(_) => {
            stream.response([(":status", "200")]).send().map_err(|error| error.to_string())?
        }
        other => other,
    };
    let (headers, body) = match response {
        Outcome::Continue(message) => (message.headers, message.body),
        Outcome::LocalReply(reply) => (reply.headers, reply.body),
        other => return Err(format!("no response: {other:?}")),
    };
    let status = headers.text(":status").and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(Observed { upstream, status, headers: fields(&headers), body })
}

fn introspect(stream: &Stream, expected: Option<&Introspected>) -> Result<(), String> {
    let (callout, expected) = match (stream.callout(), expected) {
        (None, None) => return Ok(()),
        (None, Some(_)) => return Err("the filter should ask, but did not".to_owned()),
        (Some(_), None) => return Err("the filter should not ask, but did".to_owned()),
        (Some(callout), Some(expected)) => (callout, expected),
    };
    let question = String::from_utf8_lossy(&callout.body).replace(' ', "");
    let asks = question == format!("{{\"key_sha256\":\"{}\"}}", expected.key_sha256)
        && callout.cluster == INTROSPECTION_CLUSTER
        && callout.headers.get(":authority") == Some(INTROSPECTION_AUTHORITY.as_bytes())
        && callout.headers.get(":path") == Some(INTROSPECTION_PATH.as_bytes())
        && callout.headers.get(":method") == Some(b"POST");
    if !asks {
        return Err(format!("the filter asked {question} of {}:\n{}", callout.cluster, callout.headers));
    }
    let answered = match &expected.answer {
        Answer::Response { status, body } => callout.reply(*status, HeaderMap::new(), body.as_bytes()),
        Answer::Dead => callout.fail(),
        Answer::Late => callout.time_out(),
    };
    answered.map_err(|error| error.to_string())
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    headers.iter().map(|(name, value)| (text(name), value.to_vec())).collect()
}
