//! Modules as text that are made from the tables of functions and callbacks.

use std::fmt::Write as _;

use tollgate_wasm_host::{CALLBACKS, Callback, HOST_FUNCTIONS, HostFunction};

/// Imports every function, under both of WASI's names.
pub fn imports_all() -> String {
    let mut text = "(module".to_string();
    for HostFunction { module, name, params, result, .. } in HOST_FUNCTIONS {
        let modules =
            if *module == "env" { &["env"][..] } else { &["wasi_snapshot_preview1", "wasi_unstable"] };
        for module in modules {
            let result = if result.is_empty() { String::new() } else { format!("(result {result})") };
            writeln!(text, r#"(import "{module}" "{name}" (func (param {params}) {result}))"#).expect("text");
        }
    }
    text += r#"(memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 0)))"#;
    text
}

#[allow(dead_code, reason = "not every test calls back")]
/// Exports every callback but those in `absent`; each logs its name. What sets them off is asked for in
/// `proxy_on_configure`: a tick after 10 ms, an item in a queue of its own, an HTTP call and a gRPC stream to `c`.
pub fn calls_back(absent: &[&str]) -> String {
    let headers = [(":method", "GET"), (":path", "/"), (":authority", "a")];
    let mut pairs = (headers.len() as u32).to_le_bytes().to_vec();
    for (name, value) in headers {
        pairs.extend((name.len() as u32).to_le_bytes());
        pairs.extend((value.len() as u32).to_le_bytes());
    }
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        pairs.extend(text.as_bytes());
        pairs.push(0);
    }
    let escaped: String = pairs.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let length = pairs.len();
    let mut text = format!(
        r#"(module
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
        (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
        (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_http_call"
          (func $http (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_grpc_stream" (func $grpc (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 100) "c")
        (data (i32.const 200) "{escaped}")
        (func $set_off
          (drop (call $tick (i32.const 10)))
          (drop (call $register (i32.const 100) (i32.const 1) (i32.const 0)))
          (drop (call $enqueue (i32.load (i32.const 0)) (i32.const 100) (i32.const 1)))
          (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 0) (i32.const 4)))
          (drop (call $http (i32.const 100) (i32.const 1) (i32.const 200) (i32.const {length}) (i32.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 0)))
          (drop (call $grpc (i32.const 100) (i32.const 1) (i32.const 100) (i32.const 1) (i32.const 100)
            (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))))
        "#
    );
    for (number, Callback { name, params, result, .. }) in CALLBACKS.iter().enumerate() {
        if absent.contains(name) {
            continue;
        }
        let (at, length) = (1000 + 64 * number, name.len());
        let set_off = if *name == "proxy_on_configure" { "(call $set_off)" } else { "" };
        let value = match *name {
            "malloc" | "proxy_on_memory_allocate" => "(i32.const 32768)",
            "proxy_on_vm_start" | "proxy_on_configure" | "proxy_on_done" => "(i32.const 1)",
            _ if result.is_empty() => "",
            _ => "(i32.const 0)",
        };
        let result = if result.is_empty() { String::new() } else { format!("(result {result})") };
        writeln!(
            text,
            r#"(data (i32.const {at}) "{name}")
            (func (export "{name}") (param {params}) {result}
              (drop (call $log (i32.const 2) (i32.const {at}) (i32.const {length}))) {set_off} {value})"#
        )
        .expect("text");
    }
    text + ")"
}
