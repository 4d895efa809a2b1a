//! Finds built modules, and speaks the test guest's language.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::expect_used, clippy::panic, reason = "called by tests only")]

pub mod abi;

use std::path::PathBuf;

use tollgate_wasm_host::{Host, Logs, Module, Outcome, Plugin, RequestBuilder, Stream};

/// A module that `wasm-filters/build.sh` built: from `TOLLGATE_WASM_DIR`, or the workspace's `target/wasm`.
pub fn built(name: &str) -> Module {
    let path = built_path(name);
    Module::from_file(&path).unwrap_or_else(|error| panic!("{error}; run wasm-filters/build.sh first"))
}

/// Its file.
pub fn built_path(name: &str) -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/wasm"));
    let folder = std::env::var_os("TOLLGATE_WASM_DIR").map_or_else(default, PathBuf::from);
    folder.join(format!("{name}.wasm"))
}

/// A host with the clusters the guest is told to call, and the guest with one worker.
pub fn guest(configuration: &str) -> (Host, Plugin) {
    let host = Host::new().cluster("up");
    let plugin = host
        .plugin(&built("host_guest"))
        .name("guest")
        .root_id("root")
        .vm_id("vm")
        .configuration(configuration)
        .start()
        .expect("the guest starts");
    (host, plugin)
}

/// A request with these instructions.
pub fn request<'a>(plugin: &'a Plugin, instructions: &[&str]) -> RequestBuilder<'a> {
    let request = plugin.worker(0).request([(":path", "/p?q=1")]);
    instructions.iter().fold(request, |request, line| match line.split_once(": ") {
        Some((when, line)) => request.header(format!("x-do-{when}"), line),
        None => request.header("x-do", line),
    })
}

/// Sends it, and returns what the instructions reported.
pub fn run(plugin: &Plugin, instructions: &[&str]) -> (Stream, Vec<String>) {
    plugin.take_logs();
    let stream = request(plugin, instructions).send().expect("no trap");
    (stream, outs(&plugin.take_logs()))
}

/// What instructions reported.
pub fn outs(logs: &Logs) -> Vec<String> {
    logs.0.iter().filter_map(|line| line.text.strip_prefix("out: ")).map(str::to_string).collect()
}

/// Callbacks in the order they came.
pub fn events(logs: &Logs) -> Vec<String> {
    logs.0.iter().filter_map(|line| line.text.strip_prefix("event: ")).map(str::to_string).collect()
}

/// The status of a local reply.
pub fn status(outcome: &Outcome) -> u16 {
    outcome.local_reply().unwrap_or_else(|| panic!("no local reply but {outcome:?}")).status
}
