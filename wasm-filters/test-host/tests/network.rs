//! TCP connections through a network filter, and the environment that a module reads.

use tollgate_wasm_host::{Error, Host, Module, Peer, Plugin};

mod support;

/// Holds what the client sends until there are six bytes, then puts `>` before it. What the upstream sends goes on,
/// unless it starts with `!`, which closes the connection.
const FILTER: &str = r#"(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $read (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $write (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "closed by ?>")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
    (if (i32.lt_u (local.get 1) (i32.const 6)) (then (return (i32.const 1))))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 111) (i32.const 1)))
    (i32.const 0))
  (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
    (drop (call $read (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4)))
    (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) (i32.const 33)) (then (drop (call $close (i32.const 2)))))
    (i32.const 0))
  (func (export "proxy_on_downstream_connection_close") (param i32 i32)
    (i32.store8 (i32.const 110) (i32.add (i32.const 48) (local.get 1)))
    (drop (call $log (i32.const 2) (i32.const 100) (i32.const 11)))))"#;

fn start() -> Result<Plugin, Error> {
    Host::new().plugin(&Module::from_bytes(FILTER.as_bytes())?).start()
}

#[test]
fn bytes_are_held_changed_and_let_go() {
    let plugin = start().expect("it starts");
    let mut connection = plugin.worker(0).connect().expect("no trap");
    connection.client_sends("abc", false).expect("no trap");
    assert_eq!(connection.to_upstream(), b"");
    connection.client_sends("def", true).expect("no trap");
    assert_eq!(connection.to_upstream(), b">abcdef");
    connection.upstream_sends("fine", true).expect("no trap");
    assert_eq!((connection.to_client(), connection.closed_by()), (b"fine".to_vec(), None));
    connection.close().expect("no trap");
    assert_eq!(connection.closed_by(), Some(Peer::Remote));
    assert_eq!(plugin.logs().texts(), ["closed by 2"]);
}

#[test]
fn a_filter_closes_a_connection() {
    let plugin = start().expect("it starts");
    let mut connection = plugin.worker(0).connect().expect("no trap");
    connection.upstream_sends("!", false).expect("no trap");
    assert_eq!(connection.closed_by(), Some(Peer::Local));
    assert!(matches!(connection.client_sends("late", false), Err(Error::Finished)));
    assert_eq!(plugin.logs().texts(), ["closed by 1"]);
}

#[test]
fn a_module_reads_the_environment_it_is_configured_with() {
    let text = r#"(module
      (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (import "wasi_unstable" "environ_get" (func $get (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "proxy_abi_version_0_2_1"))
      (func (export "malloc") (param i32) (result i32) (i32.const 0))
      (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (drop (call $get (i32.const 16) (i32.const 100)))
        (drop (call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 4))))
        (i32.load (i32.const 0))))"#;
    let module = Module::from_bytes(text.as_bytes()).expect("a module");
    let plugin =
        Host::new().plugin(&module).environment("A", "1").environment("B", "2").start().expect("it starts");
    assert_eq!(plugin.logs().texts()[0], "A=1\0B=2\0");
}
