//! Tests a filter that was written with the `proxy-wasm` crate, in all that can become of a request.
//!
//! In a crate of your own each function here is a `#[test]`, and the module is what
//! `cargo build --release --target wasm32-unknown-unknown` made. Here `examples/filter` is built by
//! `wasm-filters/build.sh`; its path is the argument: `cargo run --example unit_test -- target/wasm/host_example.wasm`.

use std::time::Duration;

use tollgate_wasm_host::{Error, Host, Module, Outcome, Plugin};

fn main() -> Result<(), Error> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "target/wasm/host_example.wasm".to_string());
    run(&Module::from_file(path)?)
}

/// All of them.
pub fn run(module: &Module) -> Result<(), Error> {
    without_a_token_nobody_is_asked(module)?;
    who_it_is_goes_to_the_upstream(module)?;
    a_service_that_fails_is_no_pass(module)?;
    a_mistake_in_the_configuration_is_told(module)
}

/// A host with the cluster that the filter asks, and the filter.
fn start(module: &Module) -> Result<(Host, Plugin), Error> {
    let host = Host::new().cluster("users");
    let plugin = host.plugin(module).configuration("users").start()?;
    Ok((host, plugin))
}

fn without_a_token_nobody_is_asked(module: &Module) -> Result<(), Error> {
    let (_host, plugin) = start(module)?;
    let stream = plugin.worker(0).request([(":path", "/things")]).send()?;
    assert_eq!(stream.outcome().local_reply().map(|reply| reply.status), Some(401));
    assert!(plugin.callouts().is_empty());
    Ok(())
}

fn who_it_is_goes_to_the_upstream(module: &Module) -> Result<(), Error> {
    let (host, plugin) = start(module)?;
    let request = plugin.worker(0).request([("x-token", "t1"), ("x-user", "forged")]);
    let mut stream = request.send()?;
    assert_eq!(stream.outcome(), Outcome::Pause);

    let callouts = stream.callouts();
    assert_eq!(callouts.len(), 1);
    for callout in callouts {
        assert_eq!(callout.headers.text("x-token").as_deref(), Some("t1"));
        callout.reply(200, [("content-type", "text/plain")], "ada")?;
    }

    let outcome = stream.outcome();
    let headers = outcome.forwarded().map(|message| message.headers.clone()).unwrap_or_default();
    assert_eq!(headers.text("x-user").as_deref(), Some("ada"));
    stream.response([(":status", "200")]).body("things").send()?;
    stream.finish()?;
    assert_eq!(host.metric("users.asked"), Some(1));
    Ok(())
}

fn a_service_that_fails_is_no_pass(module: &Module) -> Result<(), Error> {
    let (host, plugin) = start(module)?;
    let ask = || plugin.worker(0).request([("x-token", "t1")]).send();
    let status = |outcome: Outcome| outcome.local_reply().map(|reply| reply.status);

    // The host is dead, and Envoy answers the filter with a 503.
    let stream = ask()?;
    stream.callouts().into_iter().try_for_each(|callout| callout.fail())?;
    assert_eq!(status(stream.outcome()), Some(503));

    // Nobody answers: virtual time passes the filter's limit.
    let stream = ask()?;
    host.clock().advance(Duration::from_millis(499))?;
    assert_eq!(stream.outcome(), Outcome::Pause);
    host.clock().advance(Duration::from_millis(1))?;
    assert_eq!(status(stream.outcome()), Some(503));

    // The service knows the token of nobody.
    let stream = ask()?;
    for callout in stream.callouts() {
        callout.reply(404, [("x-reason", "unknown")], "")?;
    }
    assert_eq!(status(stream.outcome()), Some(403));
    Ok(())
}

fn a_mistake_in_the_configuration_is_told(module: &Module) -> Result<(), Error> {
    let refused = Host::new().plugin(module).configuration("").start().err();
    let refused = refused.map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("the configuration names no cluster"), "{refused}");
    Ok(())
}
