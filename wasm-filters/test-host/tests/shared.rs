//! What VMs share: time, ticks, shared data, queues, metrics; and what they do not.

use std::time::{Duration, SystemTime};

use tollgate_wasm_host::{HeaderMap, Host, LogLevel, VmName};

use crate::support::{built, guest, outs, run};

mod support;

#[test]
fn time_stands_still_until_it_is_moved() {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let host = Host::new().starting_at(start);
    let plugin = host.plugin(&built("host_guest")).start().expect("the guest starts");
    assert_eq!(run(&plugin, &["time"]).1, ["time 1000000000000"]);
    host.clock().advance(Duration::from_nanos(7)).expect("no trap");
    assert_eq!(run(&plugin, &["time"]).1, ["time 1000000000007"]);
    assert_eq!(host.clock().now(), start + Duration::from_nanos(7));
    host.clock().jump_to(SystemTime::UNIX_EPOCH);
    assert_eq!(run(&plugin, &["time"]).1, ["time 0"]);
}

#[test]
fn every_vm_ticks_at_its_period() {
    let (host, plugin) = guest("tick=100");
    plugin.take_logs();
    host.clock().advance(Duration::from_millis(99)).expect("no trap");
    assert!(plugin.logs().0.is_empty());
    host.clock().advance(Duration::from_millis(201)).expect("no trap");
    let logs = plugin.logs();
    assert_eq!(logs.of(VmName::Main).texts(), ["tick 1", "tick 2", "tick 3"]);
    assert_eq!(logs.of(VmName::Worker(0)).texts(), ["tick 1", "tick 2", "tick 3"]);
    assert_eq!(logs.of(VmName::Canary).texts().len(), 0);
}

#[test]
fn shared_data_is_shared_by_vm_id_and_checked_by_version() {
    let (host, plugin) = guest("");
    let (_, out) = run(
        &plugin,
        &[
            "shared-get k",
            "shared-set k v 5",
            "shared-get k",
            "shared-set k w 99",
            "shared-set k w 1",
            "shared-get k",
        ],
    );
    assert_eq!(
        out,
        [
            "shared k None None",
            "shared-set Ok(())",
            "shared k Some(\"v\") Some(1)",
            "shared-set Err(CasMismatch)",
            "shared-set Ok(())",
            "shared k Some(\"w\") Some(2)"
        ]
    );
    assert_eq!(host.shared_data("vm", "k"), Some((b"w".to_vec(), 2)));
    let other = host.plugin(&built("host_guest")).vm_id("vm").start().expect("the guest starts");
    assert_eq!(run(&other, &["shared-get k"]).1, ["shared k Some(\"w\") Some(2)"]);
    let stranger = host.plugin(&built("host_guest")).vm_id("else").start().expect("the guest starts");
    assert_eq!(run(&stranger, &["shared-get k"]).1, ["shared k None None"]);
}

#[test]
fn shared_data_goes_with_the_last_plugin_of_its_vm_id() {
    let (host, first) = guest("");
    let second = host.plugin(&built("host_guest")).vm_id("vm").start().expect("the guest starts");
    run(&first, &["shared-set k v"]);
    drop(first);
    assert_eq!(run(&second, &["shared-get k"]).1, ["shared k Some(\"v\") Some(1)"]);
    drop(second);
    assert_eq!(host.shared_data("vm", "k"), None);
}

#[test]
fn ticks_go_on_when_the_wall_clock_is_set_back() {
    let (host, plugin) = guest("tick=100");
    host.clock().jump_to(SystemTime::UNIX_EPOCH);
    host.clock().advance(Duration::from_millis(100)).expect("no trap");
    assert_eq!(plugin.logs().count("tick 1"), 2);
}

#[test]
fn a_declared_property_is_what_it_was_declared_to_be() {
    let (_, plugin) = guest("");
    // Declared by a stream, it changes nothing: Envoy asks the root context's.
    let declared = ["foreign declare_property 0a03666f6f1001", "set-property foo a", "set-property foo b"];
    let (stream, out) = run(&plugin, &declared);
    assert_eq!((out, stream.property(["foo"])), (vec!["foreign Ok(None)".to_string()], Some(b"b".to_vec())));
    let named = "foreign set_envoy_filter_state 0a17656e766f792e7463705f70726f78792e636c7573746572120163";
    let (stream, _) = run(&plugin, &[named]);
    assert_eq!(stream.filter_state("envoy.tcp_proxy.cluster").as_deref(), Some(b"c".as_slice()));
}

#[test]
fn a_queue_tells_the_vm_that_registered_it_last() {
    let (host, plugin) = guest("queue=q");
    let (_, out) =
        run(&plugin, &["queue-push q hi", "queue-push nope hi", "queue-push vm:q there", "queue-pop 9"]);
    assert_eq!(out, ["push Ok(())", "push Ok(None)", "push Ok(())", "pop Err(NotFound)"]);
    let sender = host.plugin(&built("host_guest")).vm_id("other").start().expect("the guest starts");
    plugin.take_logs();
    run(&sender, &["queue-push vm:q far"]);
    let told = plugin.logs();
    assert_eq!(told.texts(), ["queue 1 gave far"]);
    assert_eq!(told.0[0].vm, VmName::Worker(0));
}

#[test]
fn metrics_are_atomics_across_workers() {
    let host = Host::new();
    let plugin = host.plugin(&built("host_guest")).workers(2).start().expect("the guest starts");
    let (_, out) = run(
        &plugin,
        &[
            "metric counter c add 0",
            "metric counter c add 5",
            "metric counter c get",
            "metric counter c set 7",
            "metric gauge g set 3",
            "metric gauge g add -1",
            "metric gauge g get",
            "metric histogram h set 5",
            "metric histogram h add 5",
            "metric histogram h get",
        ],
    );
    assert_eq!(
        out,
        [
            "metric Err(BadArgument)",
            "metric Ok(())",
            "metric Ok(5)",
            "metric Ok(())",
            "metric Ok(())",
            "metric Ok(())",
            "metric Ok(2)",
            "metric Ok(())",
            "metric Err(BadArgument)",
            "metric Err(BadArgument)"
        ]
    );
    plugin.take_logs();
    let request =
        plugin.worker(1).request([("x-do", "metric counter c add 1"), ("x-do", "metric counter c get")]);
    let _stream = request.send().expect("no trap");
    assert_eq!(outs(&plugin.logs()), ["metric Ok(())", "metric Ok(13)"]);
    assert_eq!((host.metric("c"), host.metric("g"), host.histogram("h")), (Some(13), Some(2), vec![5]));
    assert_eq!(host.metric("nope"), None);
}

#[test]
fn logs_keep_level_vm_and_text() {
    let host = Host::new().log_level(LogLevel::Warn);
    let plugin = host.plugin(&built("host_guest")).start().expect("the guest starts");
    let (_, out) = run(&plugin, &["level"]);
    assert_eq!(out, ["level Ok(Warn)"]);
    let _stream =
        plugin.worker(0).request([("x-do", "log critical on fire"), ("x-do", "log trace shh")]).send();
    let loud = plugin.logs().at_least(LogLevel::Critical);
    assert_eq!(loud.texts(), ["on fire"]);
    assert_eq!((loud.0[0].vm, plugin.logs().count("shh")), (VmName::Worker(0), 1));
}

#[test]
fn foreign_functions_are_envoys_or_the_tests() {
    let host = Host::new().foreign_function("reverse", |bytes| Ok(bytes.iter().rev().copied().collect()));
    let plugin = host.plugin(&built("host_guest")).start().expect("the guest starts");
    let (stream, out) = run(
        &plugin,
        &[
            "foreign reverse 616263",
            "foreign nope 00",
            "foreign verify_signature ff",
            "foreign verify_signature 0a06736861323536",
            "foreign clear_route_cache 00",
        ],
    );
    assert_eq!(
        out,
        [
            "foreign Ok(Some(\"cba\"))",
            "foreign Err(NotFound)",
            "foreign Err(BadArgument)",
            "foreign Err(BadArgument)",
            "foreign Ok(None)"
        ]
    );
    assert_eq!(stream.route_cache_clears(), 1);
}

#[test]
fn a_root_that_is_not_done_is_not_deleted() {
    let (_, plugin) = guest("done-later");
    plugin.shut_down().expect("no trap");
    assert_eq!(plugin.logs().count("root done"), 2);
}

#[test]
fn a_big_value_finds_room_in_the_module() {
    let (_, plugin) = guest("");
    let big = vec![b'x'; 1 << 20];
    let stream = plugin.worker(0).request(HeaderMap::new()).header("x-big", &big).send().expect("no trap");
    assert_eq!(stream.outcome().forwarded().expect("let through").headers.get("x-big"), Some(big.as_slice()));
}
