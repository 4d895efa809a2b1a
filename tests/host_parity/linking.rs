//! The host's tables of functions, beside the Envoy that is installed.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::json;
use tollgate_tests::{envoy, toolbox::Toolbox, work_dir};
use tollgate_wasm_host::{Answer, HOST_FUNCTIONS, Host, HostFunction, Module, Support};

#[path = "../../wasm-filters/test-host/tests/support/abi.rs"]
mod modules;

/// Whether a plugin of this module starts in Envoy, and what it said.
fn starts_in_envoy(text: &str) -> (bool, String) {
    let toolbox = Toolbox::find().unwrap();
    let folder = work_dir::new("linking").unwrap();
    let (module, bootstrap) = (folder.join("module.wasm"), folder.join("bootstrap.json"));
    fs::write(&module, wat::parse_str(text).unwrap()).unwrap();
    fs::write(&bootstrap, bootstrap_with(&module).to_string()).unwrap();
    let output = envoy::validate(&toolbox, &bootstrap).unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn bootstrap_with(module: &Path) -> serde_json::Value {
    let filter = json!({
        "name": "wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
            "config": { "vm_config": { "runtime": "envoy.wasm.runtime.v8", "code": { "local": { "filename": module } } } },
        },
    });
    let echo = json!({
        "name": "echo",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo" },
    });
    json!({ "static_resources": { "listeners": [{
        "name": "l",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [filter, echo] }],
    }] } })
}

fn starts_here(text: &str) -> bool {
    let module = Module::from_bytes(&wat::parse_str(text).unwrap()).unwrap();
    Host::new().plugin(&module).start().is_ok()
}

#[test]
fn every_function_of_the_table_links_in_envoy() {
    let (starts, said) = starts_in_envoy(&modules::imports_all());
    assert!(starts, "{said}");
}

#[test]
fn what_the_host_refuses_to_link_envoy_refuses_too() {
    for name in ["proxy_clear_route_cache", "proxy_get_configuration", "proxy_continue_request", "abort"] {
        let text = format!(
            r#"(module (import "env" "{name}" (func (result i32)))
              (func (export "proxy_abi_version_0_2_1"))
              (func (export "malloc") (param i32) (result i32) (i32.const 0)))"#
        );
        let (starts, said) = starts_in_envoy(&text);
        assert!(!starts && said.contains("missing import"), "{name}: {said}");
        assert!(!starts_here(&text), "{name}");
    }
    let mute = r#"(module (func (export "proxy_abi_version_0_2_1")))"#;
    assert!(!starts_in_envoy(mute).0 && !starts_here(mute));
}

/// Falls over where an answer is not the table's.
#[test]
fn functions_with_nothing_behind_them_answer_the_same() {
    let (mut imports, mut calls) = (String::new(), String::new());
    for HostFunction { module, name, params, result, support, .. } in HOST_FUNCTIONS {
        let Support::Answers(answer) = support else { continue };
        let result = if result.is_empty() { String::new() } else { format!("(result {result})") };
        writeln!(imports, r#"(import "{module}" "{name}" (func ${name} (param {params}) {result}))"#)
            .unwrap();
        for file in [0, 1, 2, 3] {
            let arguments: String = params
                .split_whitespace()
                .enumerate()
                .map(|(at, kind)| format!("({kind}.const {})", if at == 0 { file } else { 3_000 + 8 * at }))
                .collect();
            let call = format!("(call ${name} {arguments})");
            let expected = match answer {
                Answer::Nothing => {
                    writeln!(calls, "{call}").unwrap();
                    continue;
                }
                Answer::Always(number) => *number,
                Answer::StandardStreams => u32::from(file != 1 && file != 2) * 8,
            };
            writeln!(calls, "(if (i32.ne {call} (i32.const {expected})) (then (unreachable)))").unwrap();
        }
    }
    let text = format!(
        r#"(module {imports}
          (memory (export "memory") 1)
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "malloc") (param i32) (result i32) (i32.const 0))
          (func (export "proxy_on_vm_start") (param i32 i32) (result i32) {calls} (i32.const 1)))"#
    );
    assert!(starts_here(&text));
    let (starts, said) = starts_in_envoy(&text);
    assert!(starts, "{said}");
}

/// One function a module, so that each shows for itself.
#[test]
fn the_same_functions_can_be_called_before_the_vm_starts() {
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
        assert_eq!(starts_here(&text), *at_start, "{name} here");
        let (starts, said) = starts_in_envoy(&text);
        assert_eq!(starts, *at_start, "{name} in Envoy: {said}");
    }
}
