//! Sends one request through a filter and prints what became of it.
//!
//! `cargo run -p tollgate-wasm-host --example one_request -- FILTER.wasm CONFIGURATION [HEADER: VALUE]…`; a header
//! named `route-policies` sets the route's policies that Tollgate's filters read of its name. Callouts are answered with
//! 503, as if nobody was there.

use std::time::Duration;

use tollgate_wasm_host::{Error, HeaderMap, Host, Outcome};

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(filter), Some(configuration)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: one_request FILTER.wasm CONFIGURATION [HEADER: VALUE]…");
        std::process::exit(2);
    };
    let headers: Vec<(String, String)> = arguments
        .filter_map(|argument| {
            argument.split_once(": ").map(|(name, value)| (name.to_string(), value.to_string()))
        })
        .collect();
    let policies = headers.iter().find(|(name, _)| name == "route-policies").map(|(_, value)| value.clone());
    let headers: HeaderMap = headers.into_iter().filter(|(name, _)| name != "route-policies").collect();

    let host = Host::new().starting_at(std::time::SystemTime::now());
    let plugin = host.plugin(filter.as_str()).name("filter").configuration(configuration).start()?;
    let mut request = plugin.worker(0).request(headers);
    if let Some(policies) = policies {
        request = request
            .property(["xds", "route_name"], format!("route;plugin=filter,{policies}"))
            .property(["source", "address"], "192.0.2.1:50000");
    }
    let stream = request.send()?;
    for callout in stream.callouts() {
        println!("asked cluster {}:\n{}", callout.cluster, callout.headers);
        callout.fail()?;
    }
    host.clock().advance(Duration::from_secs(1))?;
    match stream.outcome() {
        Outcome::Continue(message) => println!("goes on with\n{}", message.headers),
        Outcome::LocalReply(reply) => {
            println!("the client gets\n{}\n{}", reply.headers, String::from_utf8_lossy(&reply.body));
        }
        other => println!("{other:?}"),
    }
    print!("{}", plugin.logs());
    Ok(())
}
