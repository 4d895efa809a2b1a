//! The table of filter cases (`wasm-filters/cases`) through real Envoy. The test host runs the same table on wasmtime:
//! what holds in both is what a filter's unit test may rely on.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use tollgate_filter_cases::{Answer, Case, Config, Observed, Outcome, Step, cases};
use tollgate_tests::{http_client::Client, ports, upstream};

use crate::{upstreams, yaml::Filters};

mod envoy;
mod introspection;

use envoy::CaseEnvoy;
use introspection::Introspection;

/// Cases that wait longer than this are the test host's alone, whose time is virtual.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// What runs in virtual time only, by name, so that no case goes missing unseen.
const VIRTUAL_TIME_ONLY: [&str; 3] = [
    "a remembered token is refused once it expires",
    "an active key is asked about again after its time",
    "an inactive key is asked about again after its time",
];
/// What is added to the name of a case in the module that holds both filters.
const IN_ONE_MODULE: &str = " (in one module)";

#[test]
fn every_case_holds_in_envoy_as_it_does_in_wasmtime() {
    let all = cases(SystemTime::now()).unwrap();
    let (long, cases): (Vec<Case>, Vec<Case>) =
        all.into_iter().partition(|case| case.total_wait() > LONGEST_WAIT);
    let names: Vec<&str> = long.iter().map(|case| case.name.trim_end_matches(IN_ONE_MODULE)).collect();
    eprintln!("left to the test host, as they wait longer than {LONGEST_WAIT:?}: {names:#?}");
    assert_eq!(names, [VIRTUAL_TIME_ONLY, VIRTUAL_TIME_ONLY].concat());

    let (dead, alive): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(asks_the_dead);
    assert!(!dead.is_empty() && alive.len() > 100);
    let service = Introspection::start().unwrap();
    let mut failures = run_all(&dead, Filters::Wasm, ports::free().unwrap(), &service);
    failures.extend(run_all(&alive, Filters::Wasm, service.port(), &service));
    assert!(failures.is_empty(), "what does not hold in Envoy:\n{}", failures.join("\n"));
}

#[test]
fn every_case_holds_in_the_library_as_it_does_in_wasm() {
    let cases = cases(SystemTime::now()).unwrap().into_iter();
    let cases = cases.filter(|case| case.total_wait() <= LONGEST_WAIT);
    let (limiting, other): (Vec<Case>, Vec<Case>) =
        cases.filter(|case| matches!(case.config, Config::Gateway(_))).partition(limits);
    let (dead, alive): (Vec<Case>, Vec<Case>) = other.into_iter().partition(asks_the_dead);
    assert!(!dead.is_empty() && alive.len() > 50 && limiting.len() > 20);
    let service = Introspection::start().unwrap();
    let mut failures = run_all(&dead, Filters::Native, ports::free().unwrap(), &service);
    failures.extend(run_all(&alive, Filters::Native, service.port(), &service));
    // Buckets are the process's, so each of these has a process of its own.
    for some in limiting.chunks(8) {
        thread::scope(|scope| {
            let runs: Vec<_> = some
                .iter()
                .map(|case| {
                    let service = &service;
                    let port = service.port();
                    scope.spawn(move || run_all(std::slice::from_ref(case), Filters::Native, port, service))
                })
                .collect();
            failures.extend(runs.into_iter().flat_map(|run| run.join().unwrap()));
        });
    }
    assert!(failures.is_empty(), "what does not hold in the library:\n{}", failures.join("\n"));
}

fn limits(case: &Case) -> bool {
    matches!(&case.config, Config::Gateway(config) if !config.rate_limit.policies.is_empty())
}

fn asks_the_dead(case: &Case) -> bool {
    let mut answers = case.steps.iter().filter_map(|step| step.introspection.as_ref());
    answers.any(|introspected| introspected.answer == Answer::Dead)
}

/// All cases through one Envoy, each by its own listener; those that wait do it side by side.
fn run_all(cases: &[Case], filters: Filters, introspection: u16, service: &Introspection) -> Vec<String> {
    let envoy = CaseEnvoy::start(cases, filters, introspection).unwrap();
    let failures = Mutex::new(Vec::new());
    let note = &|case: &Case, port: u16| {
        if let Err(why) = run(case, port, service) {
            failures.lock().unwrap().push(format!("{}: {why:#}", case.name));
        }
    };
    thread::scope(|scope| {
        let (waiting, quick): (Vec<_>, Vec<_>) =
            envoy.listeners(cases).partition(|(case, _)| !case.total_wait().is_zero());
        for (case, port) in waiting {
            scope.spawn(move || note(case, port));
        }
        for (case, port) in quick {
            note(case, port);
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.extend(service.stray().into_iter().map(|question| format!("nobody was to ask: {question}")));
    // The answer that the client gets cannot show a request that was refused and forwarded, too.
    let (passing, forwarded) = (passing(cases), envoy.forwarded().unwrap());
    if failures.is_empty() && forwarded != passing {
        failures.push(format!("{forwarded} requests reached the upstream where {passing} should pass"));
    }
    if !failures.is_empty() {
        failures.push(envoy.report());
    }
    failures
}

fn passing(cases: &[Case]) -> u64 {
    let steps = cases.iter().flat_map(|case| &case.steps);
    steps.filter(|step| step.expect.outcome == Outcome::Passes).count() as u64
}

fn run(case: &Case, port: u16, service: &Introspection) -> Result<()> {
    for (number, step) in (1..).zip(&case.steps) {
        // The case is about time that passes.
        thread::sleep(step.wait);
        let observed = send(step, port, service).with_context(|| format!("step {number}"))?;
        if let Err(why) = step.expect.check(&observed) {
            bail!("step {number}: {why}");
        }
    }
    Ok(())
}

fn send(step: &Step, port: u16, service: &Introspection) -> Result<Observed> {
    // One question at a time; what a step asks that must not is stray.
    let turn = step.introspection.as_ref().map(|introspected| service.expect(introspected));
    let mut request = Client::new(port).get(&step.path).from(step.client);
    for (name, value) in &step.headers {
        request = request.header(name, value);
    }
    let reply = request.send()?;
    if let Some(turn) = turn {
        turn.was_asked()?;
    }
    let passed = reply.headers.contains_key(upstream::NAME_HEADER);
    Ok(Observed {
        upstream: passed.then(|| upstreams::headers_seen(&reply)),
        status: reply.status,
        headers: reply
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
        body: reply.body.to_vec(),
    })
}
