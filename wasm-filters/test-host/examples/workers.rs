//! Shows what workers share and what they don't: one asks a service, all others remember, and one is told of it.
//!
//! `cargo run --example workers -- target/wasm/host_example.wasm`

use tollgate_wasm_host::{Error, Host, Module, VmName};

/// As many as Envoy has with `--concurrency 4`; each has a VM of its own, and the main thread has another.
const WORKERS: usize = 4;

fn main() -> Result<(), Error> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "target/wasm/host_example.wasm".to_string());
    run(&Module::from_file(path)?)
}

/// The example.
pub fn run(module: &Module) -> Result<(), Error> {
    let host = Host::new().cluster("users");
    // Shared data and queues belong to a VM id.
    let plugin = host.plugin(module).vm_id("users").configuration("users").workers(WORKERS).start()?;

    // The first worker has to ask, and puts the answer into shared data.
    let first = plugin.worker(0).request([("x-token", "t1")]).send()?;
    first.callouts().into_iter().try_for_each(|callout| callout.reply(200, [("x-of", "users")], "ada"))?;
    assert_eq!(host.shared_data("users", "t1").map(|(value, _)| value), Some(b"ada".to_vec()));

    // All others find it there, and ask nobody.
    for worker in &plugin.workers()[1..] {
        let stream = worker.request([("x-token", "t1")]).send()?;
        let outcome = stream.outcome();
        let headers = outcome.forwarded().map(|message| message.headers.clone()).unwrap_or_default();
        assert_eq!(headers.text("x-user").as_deref(), Some("ada"));
    }
    assert!(plugin.callouts().is_empty());

    // The worker wrote into a queue, too. Of all VMs that registered it, the last one was told.
    let told: Vec<VmName> =
        plugin.logs().0.iter().filter(|line| line.text == "asked about ada").map(|line| line.vm).collect();
    assert_eq!(told, [VmName::Worker(WORKERS - 1)]);
    // Metrics are Envoy's, so that it doesn't matter who counts.
    assert_eq!(host.metric("users.asked"), Some(1));
    Ok(())
}
