//! Walks the tables of functions and callbacks, so that they say what is so.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use tollgate_wasm_host::{
    Answer, CALLBACKS, Callback, Error, HOST_FUNCTIONS, HeaderMap, Host, HostFunction, Module, Support,
};

use crate::support::abi::{calls_back, imports_all};

mod support;

/// Every function of the specification (proxy-wasm/spec, `abi-versions/v0.2.1`).
const SPECIFIED: &str = "
    proxy_done proxy_set_effective_context proxy_log fd_write proxy_get_log_level proxy_get_current_time_nanoseconds
    clock_time_get proxy_set_tick_period_milliseconds random_get environ_sizes_get environ_get proxy_set_buffer_bytes
    proxy_get_buffer_bytes proxy_get_buffer_status proxy_get_header_map_size proxy_get_header_map_pairs
    proxy_set_header_map_pairs proxy_get_header_map_value proxy_add_header_map_value proxy_replace_header_map_value
    proxy_remove_header_map_value proxy_continue_stream proxy_close_stream proxy_get_status proxy_send_local_response
    proxy_http_call proxy_grpc_call proxy_grpc_stream proxy_grpc_send proxy_grpc_cancel proxy_grpc_close
    proxy_set_shared_data proxy_get_shared_data proxy_register_shared_queue proxy_resolve_shared_queue
    proxy_enqueue_shared_queue proxy_dequeue_shared_queue proxy_define_metric proxy_record_metric
    proxy_increment_metric proxy_get_metric proxy_get_property proxy_set_property proxy_call_foreign_function
    args_sizes_get args_get proc_exit";

/// And every callback.
const SPECIFIED_CALLBACKS: &str = "
    proxy_abi_version_0_2_1 _initialize main _start proxy_on_memory_allocate malloc proxy_on_context_create proxy_on_done
    proxy_on_log proxy_on_delete proxy_on_vm_start proxy_on_configure proxy_on_tick proxy_on_new_connection
    proxy_on_downstream_data proxy_on_downstream_connection_close proxy_on_upstream_data
    proxy_on_upstream_connection_close proxy_on_request_headers proxy_on_request_body proxy_on_request_trailers
    proxy_on_response_headers proxy_on_response_body proxy_on_response_trailers proxy_on_http_call_response
    proxy_on_grpc_receive_initial_metadata proxy_on_grpc_receive proxy_on_grpc_receive_trailing_metadata
    proxy_on_grpc_close proxy_on_queue_ready proxy_on_foreign_function";

#[test]
fn the_tables_hold_all_of_the_specification() {
    for name in SPECIFIED.split_whitespace() {
        assert!(HOST_FUNCTIONS.iter().any(|function| function.name == name), "{name}");
    }
    for name in SPECIFIED_CALLBACKS.split_whitespace() {
        assert!(CALLBACKS.iter().any(|callback| callback.name == name), "{name}");
    }
}

#[test]
fn every_function_links_from_one_module() {
    let module = Module::from_bytes(imports_all().as_bytes()).expect("a module");
    Host::new().plugin(&module).start().expect("it starts");
}

#[test]
fn what_is_not_in_the_table_does_not_link_and_neither_does_another_signature() {
    let start = |import: &str| {
        let text = format!(
            r#"(module {import} (func (export "proxy_abi_version_0_2_1"))
              (func (export "malloc") (param i32) (result i32) (i32.const 0)))"#
        );
        let module = Module::from_bytes(text.as_bytes()).expect("a module");
        Host::new().plugin(&module).start().err().expect("refused").to_string()
    };
    assert_eq!(
        start(r#"(import "env" "proxy_clear_route_cache" (func (result i32)))"#),
        "the module imports env.proxy_clear_route_cache: there is no such function"
    );
    assert_eq!(
        start(r#"(import "env" "proxy_log" (func (param i32) (result i32)))"#),
        "the module imports env.proxy_log: it is (i32 i32 i32) -> (i32), not (i32) -> (i32)"
    );
    assert_eq!(
        start(r#"(import "env" "proxy_log" (memory 1))"#),
        "the module imports env.proxy_log: it is a function"
    );
    assert!(
        start(r#"(func (export "proxy_on_tick") (param i64))"#)
            .starts_with("the module exports proxy_on_tick: ")
    );
}

#[test]
fn every_callback_is_called() {
    let mut called = BTreeSet::new();
    // What is the other's alternative is called in its absence.
    for absent in
        [&["_start", "proxy_on_memory_allocate"][..], &["_initialize", "main", "__main_void", "malloc"]]
    {
        let module = Module::from_bytes(calls_back(absent).as_bytes()).expect("a module");
        let host = Host::new().cluster("c");
        let plugin = host.plugin(&module).configuration("text").start().expect("it starts");
        let worker = plugin.worker(0);

        host.clock().advance(Duration::from_millis(10)).expect("no trap");
        for callout in plugin.callouts() {
            callout.reply(200, HeaderMap::new(), "").expect("no trap");
        }
        for callout in plugin.grpc_callouts() {
            callout.initial_metadata(HeaderMap::new()).expect("no trap");
            callout.message("m").expect("no trap");
            callout.trailing_metadata(HeaderMap::new()).expect("no trap");
            callout.close(0, "").expect("no trap");
        }
        worker.call_foreign_callback(7, "arguments").expect("no trap");

        let request = worker.request([(":path", "/")]).body("b").trailer("t", "1");
        let mut stream = request.send().expect("no trap");
        stream.response([(":status", "200")]).body("b").trailer("t", "1").send().expect("no trap");
        stream.finish().expect("no trap");

        let mut connection = worker.connect().expect("no trap");
        connection.client_sends("hello", false).expect("no trap");
        connection.upstream_sends("world", true).expect("no trap");
        connection.close().expect("no trap");
        plugin.shut_down().expect("no trap");
        called.extend(plugin.logs().0.into_iter().map(|line| line.text));
    }
    for Callback { name, support, .. } in CALLBACKS {
        let expected = !matches!(support, Support::Refused(_)) && !name.starts_with("proxy_abi_version");
        assert_eq!(called.contains(*name), expected, "{name}");
    }
}

#[test]
fn few_functions_can_be_called_before_the_vm_starts() {
    for HostFunction { module, name, params, result, at_start, .. } in HOST_FUNCTIONS {
        let zeros: String = params.split_whitespace().map(|kind| format!("({kind}.const 0)")).collect();
        let drop = if result.is_empty() { "" } else { "drop" };
        let result = if result.is_empty() { String::new() } else { format!("(result {result})") };
        let text = format!(
            r#"(module (import "{module}" "{name}" (func $call (param {params}) {result}))
              (memory (export "memory") 1)
              (func (export "proxy_abi_version_0_2_1"))
              (func (export "malloc") (param i32) (result i32) (i32.const 0))
              (func (export "_start") (call $call {zeros}) {drop}))"#
        );
        let module = Module::from_bytes(text.as_bytes()).expect("a module");
        match Host::new().plugin(&module).start() {
            Ok(_) => assert!(*at_start, "{name} should be refused"),
            Err(Error::Trap(trap)) => {
                assert!(!at_start && trap.reason.contains("cannot be called before"), "{name}: {trap}");
                assert_eq!(trap.callback, "_start");
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
}

/// Copy what this prints into the README when it fails.
#[test]
fn the_readme_shows_the_tables() {
    let mut table = "| function | |\n|---|---|\n".to_string();
    for HostFunction { name, support, .. } in HOST_FUNCTIONS {
        writeln!(table, "| `{name}` | {} |", told(*support)).expect("text");
    }
    table += "\n| callback | |\n|---|---|\n";
    for Callback { name, support, .. } in CALLBACKS {
        writeln!(table, "| `{name}` | {} |", told(*support)).expect("text");
    }
    let readme = include_str!("../README.md");
    assert!(readme.contains(&table), "the README should hold:\n{table}");
}

fn told(support: Support) -> String {
    match support {
        Support::Full => "as Envoy".to_string(),
        Support::Partly(what) => format!("in part: {what}"),
        Support::Answers(Answer::Always(number)) => format!("answers {number}, as Envoy"),
        Support::Answers(Answer::StandardStreams) => {
            "answers 0 for standard output and error, 8 for all else, as Envoy".to_string()
        }
        Support::Answers(Answer::Nothing) => "does nothing, as Envoy".to_string(),
        Support::Refused(why) => format!("refused: {why}"),
    }
}
