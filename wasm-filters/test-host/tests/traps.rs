//! Modules that fall over, refuse, loop, or lie about where their memory is.

use std::time::Duration;

use tollgate_wasm_host::{
    Error, FailurePolicy, HOST_FUNCTIONS, HeaderMap, Host, HostFunction, Module, Outcome, VmName,
};

use crate::support::{built, guest, request, run, status};

mod support;

#[test]
fn a_panic_is_an_error_with_the_modules_log_and_a_503() {
    let (_, plugin) = guest("");
    let error = request(&plugin, &["panic"]).send().err().expect("a trap");
    let trap = error.trap().expect("a trap").clone();
    assert_eq!(
        (trap.callback, trap.vm, trap.out_of_fuel),
        ("proxy_on_request_headers", VmName::Worker(0), false)
    );
    assert!(trap.logs.contains("about to fall over"), "{trap}");
    let reply = trap.outcome.as_ref().and_then(Outcome::local_reply).expect("a reply").clone();
    assert_eq!((reply.status, reply.details.as_str(), reply.body.len()), (503, "wasm_fail_stream", 0));
    assert!(error.to_string().contains("about to fall over"));
    assert_eq!(plugin.traps().len(), 1);
}

#[test]
fn a_dead_vm_answers_503_for_ever_when_closed_and_lets_pass_when_open() {
    let host = Host::new();
    for (policy, closed) in [(FailurePolicy::FailClosed, true), (FailurePolicy::FailOpen, false)] {
        let plugin =
            host.plugin(&built("host_guest")).failure_policy(policy).start().expect("the guest starts");
        let trap = request(&plugin, &["panic"]).send().err().expect("a trap");
        let outcome = trap.trap().and_then(|trap| trap.outcome.clone()).expect("an outcome");
        assert_eq!(outcome.local_reply().is_some(), closed);
        host.clock().advance(Duration::from_secs(3600)).expect("no trap");
        let mut stream = request(&plugin, &[]).body("x").send().expect("dead before");
        assert_eq!(stream.outcome().local_reply().is_some(), closed);
        assert_eq!(stream.outcome().forwarded().is_some_and(|message| message.body == b"x"), !closed);
        if !closed {
            let response = stream.response([(":status", "201")]).send().expect("dead before");
            assert!(response.forwarded().is_some());
        }
    }
}

#[test]
fn a_reloaded_vm_starts_clean_after_the_back_off() {
    let host = Host::new();
    let plugin = host
        .plugin(&built("host_guest"))
        .failure_policy(FailurePolicy::FailReload)
        .workers(2)
        .start()
        .expect("the guest starts");
    assert!(request(&plugin, &["panic"]).send().is_err());
    assert!(!plugin.worker(0).is_alive() && plugin.worker(1).is_alive());
    assert_eq!(status(&request(&plugin, &[]).send().expect("dead before").outcome()), 503);
    host.clock().advance(Duration::from_secs(1)).expect("no trap");
    plugin.take_logs();
    assert!(request(&plugin, &[]).send().expect("alive").outcome().forwarded().is_some());
    assert_eq!(plugin.logs().of(VmName::Worker(0)).count("configure"), 1);
    assert!(plugin.worker(0).is_alive());
}

#[test]
fn a_stream_whose_vm_dies_under_it_hangs_as_it_does_in_envoy() {
    let (_, plugin) = guest("");
    let (stream, _) = run(&plugin, &["http up /x", "call: panic"]);
    let error = stream.callout().expect("pending").reply(200, HeaderMap::new(), "").expect_err("a trap");
    assert_eq!(error.trap().expect("a trap").callback, "proxy_on_http_call_response");
    assert_eq!(stream.outcome(), Outcome::Pause);
    // A reply that was asked for before the trap meets the dead VM on its way out.
    let (_, plugin) = guest("");
    let (stream, _) = run(&plugin, &["http up /x", "call: reply 418 tea", "call: panic"]);
    stream.callout().expect("pending").reply(200, HeaderMap::new(), "").expect_err("a trap");
    assert_eq!(status(&stream.outcome()), 503);
}

#[test]
fn changing_headers_after_continuing_is_the_trap_it_is_in_envoy() {
    let (_, plugin) = guest("");
    let (stream, _) = run(&plugin, &["http up /x", "call: resume 0", "call: set 0 x-late yes"]);
    let error = stream.callout().expect("pending").reply(200, HeaderMap::new(), "").expect_err("a trap");
    assert!(error.to_string().contains("unexpected status: 2"), "{error}");
}

#[test]
fn a_trap_in_the_response_is_503_until_headers_are_out_and_a_reset_then() {
    let (_, plugin) = guest("");
    let (mut stream, _) = run(&plugin, &["response: panic"]);
    let error = stream.response([(":status", "200")]).send().expect_err("a trap");
    assert_eq!(status(error.trap().and_then(|trap| trap.outcome.as_ref()).expect("an outcome")), 503);
    let (_, plugin) = guest("");
    let (mut stream, _) = run(&plugin, &["response-body: panic"]);
    stream.response([(":status", "200")]).body("x").send().expect_err("a trap");
    assert_eq!(stream.response_outcome(), Outcome::Reset);
}

#[test]
fn an_endless_loop_ends_and_says_so() {
    let host = Host::new().fuel_per_call(10_000_000);
    let plugin = host.plugin(&built("host_guest")).start().expect("the guest starts");
    let error = request(&plugin, &["loop"]).send().err().expect("a trap");
    assert!(error.trap().expect("a trap").out_of_fuel);
    assert!(error.to_string().contains("endless loop"));
    let plugin = host
        .plugin(&built("host_guest"))
        .configuration("tick=10 tick-loop")
        .start()
        .expect("the guest starts");
    let error = host.clock().advance(Duration::from_millis(50)).expect_err("a trap");
    assert_eq!(error.trap().expect("a trap").callback, "proxy_on_tick");
    assert_eq!(plugin.traps().len(), 2, "main VM and worker, once each");
}

#[test]
fn done_is_refused_where_nothing_is_pending() {
    let (_, plugin) = guest("");
    let error = request(&plugin, &["done"]).send().err().expect("the SDK panics, in Envoy too");
    assert!(error.to_string().contains("unexpected status: 1"), "{error}");
}

#[test]
fn a_refused_configuration_says_what_was_logged() {
    let host = Host::new();
    let error = host.plugin(&built("host_guest")).configuration("refuse").start().err().expect("refused");
    assert!(matches!(&error, Error::Refused { callback: "proxy_on_configure", vm: VmName::Canary, .. }));
    assert!(error.to_string().contains("configure 6 refuse"), "{error}");
    let error = host.plugin(&built("host_guest")).vm_configuration("refuse").start().err().expect("refused");
    assert!(matches!(error, Error::Refused { callback: "proxy_on_vm_start", .. }));
    let error =
        host.plugin(&built("host_guest")).configuration("panic-on-configure").start().err().expect("a trap");
    assert_eq!(error.trap().expect("a trap").callback, "proxy_on_configure");
}

#[test]
fn what_is_no_filter_does_not_start() {
    let host = Host::new();
    assert!(matches!(host.plugin("no/such.wasm").start(), Err(Error::File { .. })));
    assert!(matches!(Module::from_bytes(b"\0asm nonsense"), Err(Error::Compile(_))));
    let mute =
        Module::from_bytes(br#"(module (func (export "proxy_abi_version_0_2_1")))"#).expect("a module");
    assert!(matches!(host.plugin(&mute).start(), Err(Error::NoAllocator)));
    let silent = Module::from_bytes(b"(module)").expect("a module");
    assert!(matches!(host.plugin(&silent).start(), Err(Error::Abi)));
    let hungry = r#"(module (import "env" "proxy_nope" (func)) (func (export "proxy_abi_version_0_2_1")))"#;
    let hungry = Module::from_bytes(hungry.as_bytes()).expect("a module");
    let error = host.plugin(&hungry).start().err().expect("an import is missing");
    assert!(error.to_string().contains("proxy_nope"), "{error}");
}

/// Calls every host function with pointers and lengths that are outside of the memory, and others that are just
/// numbers, and exports the worst allocators.
#[test]
fn bad_pointers_are_a_status_and_never_a_panic() {
    let host = Host::new().cluster("up").fuel_per_call(1_000_000);
    for function in HOST_FUNCTIONS {
        for allocator in ["i32.const -8", "i32.const 0", "i32.const 16", "unreachable"] {
            let module = Module::from_bytes(caller(function, allocator).as_bytes()).expect("a module");
            let plugin = host.plugin(&module).start().expect("it starts");
            match plugin.worker(0).request(HeaderMap::new()).send() {
                Ok(_) => {}
                // Its own allocator may fall over; the host may not.
                Err(Error::Trap(trap)) => {
                    let envoy_would_too = trap.reason.starts_with("Envoy aborts");
                    assert!(allocator == "unreachable" || envoy_would_too, "{function:?}: {trap}");
                }
                Err(other) => panic!("{function:?}: {other}"),
            }
        }
    }
}

#[test]
fn a_read_past_the_end_is_invalid_memory_access() {
    let text = |length: &str| {
        format!(
            r#"(module
              (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
              (memory (export "memory") 1)
              (func (export "proxy_abi_version_0_2_1"))
              (func (export "malloc") (param i32) (result i32) (i32.const 0))
              (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (if (i32.ne (call $log (i32.const 2) (i32.const 65530) (i32.const {length})) (i32.const 6))
                  (then (unreachable)))
                (i32.const 0)))"#
        )
    };
    let host = Host::new();
    let start = |length| host.plugin(&Module::from_bytes(text(length).as_bytes()).expect("a module")).start();
    let send = |length| start(length).expect("it starts").worker(0).request(HeaderMap::new()).send().is_ok();
    assert!(send("7") && send("-1"), "refused with status 6");
    assert!(!send("6"), "the last byte can be read");
}

/// Numbers around every edge of a memory of one page.
const NUMBERS: [&str; 7] = ["-1", "0", "1", "65535", "65536", "0x7fffffff", "0x80000000"];

/// A module that calls one function with each number in all places at once.
fn caller(function: &HostFunction, allocator: &str) -> String {
    let HostFunction { module, name, params, result, .. } = function;
    let (result, drop) =
        if result.is_empty() { (String::new(), "") } else { (format!("(result {result})"), "drop") };
    let call = |number: &str| {
        let arguments: String =
            params.split_whitespace().map(|kind| format!("({kind}.const {number})")).collect();
        format!("(call $call {arguments}) {drop}\n")
    };
    format!(
        r#"(module
          (import "{module}" "{name}" (func $call (param {params}) {result}))
          (memory (export "memory") 1)
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "proxy_on_memory_allocate") (param i32) (result i32) {allocator})
          (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            {} (i32.const 0)))"#,
        NUMBERS.map(call).concat()
    )
}

#[test]
fn a_trap_says_where_it_was() {
    let text = r#"(module
      (memory (export "memory") 1)
      (func (export "proxy_abi_version_0_2_1"))
      (func (export "malloc") (param i32) (result i32) (i32.const 0))
      (func $deep (unreachable))
      (func $shallow (call $deep))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $shallow) (i32.const 0)))"#;
    let plugin = Host::new()
        .plugin(&Module::from_bytes(text.as_bytes()).expect("a module"))
        .start()
        .expect("it starts");
    let error = plugin.worker(0).request(HeaderMap::new()).send().err().expect("a trap");
    let trap = error.trap().expect("a trap");
    assert_eq!(trap.backtrace[..2], ["deep", "shallow"]);
    assert!(error.to_string().ends_with("0: deep\n  1: shallow\n  2: function 4"), "{error}");
}

#[test]
fn memory_beyond_the_limit_is_refused_and_the_trap_says_so() {
    let host = Host::new().memory_limit(4 << 20);
    let plugin = host.plugin(&built("host_guest")).start().expect("the guest starts");
    run(&plugin, &["alloc 1000"]);
    let error = request(&plugin, &["alloc 8000000"]).send().err().expect("a trap");
    assert!(error.trap().expect("a trap").out_of_memory, "{error}");
    assert!(error.to_string().contains("Host::memory_limit"), "{error}");
}
