//! Sends one request through a filter and prints what became of it.
//!
//! `cargo run --example one_request -- FILTER.wasm CONFIGURATION [HEADER: VALUE | PATH/OF/PROPERTY=VALUE]…`. Callouts
//! are answered with 503, as if nobody was there; those to clusters named as `cluster=NAME` are accepted at all.

use std::time::{Duration, SystemTime};

use tollgate_wasm_host::{Error, Host, Outcome};

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [filter, configuration, request @ ..] = arguments.as_slice() else {
        eprintln!(
            "usage: one_request FILTER.wasm CONFIGURATION [HEADER: VALUE | PROPERTY=VALUE | cluster=NAME]…"
        );
        std::process::exit(2);
    };
    print!("{}", run(filter, configuration, request)?);
    Ok(())
}

/// What there is to tell of the request.
pub fn run(filter: &str, configuration: &str, request: &[String]) -> Result<String, Error> {
    let mut host = Host::new().starting_at(SystemTime::now());
    let headers: Vec<_> = request.iter().filter_map(|argument| argument.split_once(": ")).collect();
    let others = request.iter().filter(|argument| !argument.contains(": "));
    let (clusters, properties): (Vec<_>, Vec<_>) =
        others.filter_map(|argument| argument.split_once('=')).partition(|(name, _)| *name == "cluster");
    for (_, name) in clusters {
        host = host.cluster(name);
    }
    let plugin = host.plugin(filter).configuration(configuration).start()?;
    let mut request = plugin.worker(0).request(headers);
    for (path, value) in properties {
        request = request.property(path.split('/'), value);
    }
    let stream = request.send()?;
    let mut told = String::new();
    for callout in stream.callouts() {
        told += &format!("asked cluster {}:\n{}\n", callout.cluster, callout.headers);
        callout.fail()?;
    }
    host.clock().advance(Duration::from_secs(1))?;
    told += &match stream.outcome() {
        Outcome::Continue(message) => format!("goes on with\n{}", message.headers),
        Outcome::LocalReply(reply) => {
            format!("the client gets\n{}\n{}", reply.headers, String::from_utf8_lossy(&reply.body))
        }
        other => format!("{other:?}\n"),
    };
    told += &plugin.logs().to_string();
    Ok(told)
}
