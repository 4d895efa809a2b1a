//! Very many keys through a real Envoy: what it holds. What a million shared keys take of a VM, the test host's `many_keys` shows.
//!
//! It prints its figures; `cargo test … -- many_keys --nocapture` shows them.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    thread,
    time::Instant,
};

use tollgate_tests::{gateway::Gateway, ports::loopback, stack::Proxy, usage::resident_of};

use crate::yaml::{Edge, Filters};

/// Limits of each request, and so keys: fewer requests make as many.
const LIMITS: usize = 10;
const CONNECTIONS: usize = 16;

#[test]
fn a_million_keys_of_local_limits_do_not_grow_an_envoy() {
    grown_by("local", 1_000_000, 16, Filters::Wasm);
}

#[test]
fn a_million_keys_of_local_limits_do_not_grow_an_envoy_natively() {
    grown_by("local", 1_000_000, 16, Filters::Native);
}

/// More than a worker knows at a time, so that it is asked for each, and those that went are given back.
#[test]
fn every_key_of_many_shared_limits_is_counted_and_they_do_not_grow_an_envoy() {
    grown_by("global", 100_000, 24, Filters::Wasm);
}

#[test]
fn every_key_of_many_shared_limits_is_counted_and_they_do_not_grow_an_envoy_natively() {
    grown_by("global", 100_000, 24, Filters::Native);
}

/// Sends so many keys, and fails where a request is refused, or Envoy takes more memory than said.
fn grown_by(scope: &str, keys: usize, most_mib: u64, filters: Filters) {
    let limit = "key: [{ header: x-client }], limit: 100/s";
    let also = vec![format!("{{ {limit} }}"); LIMITS - 1].join(", ");
    let yaml = Edge {
        rate_limit: vec![format!("many: {{ {limit}, also: [{also}], scope: {scope}, headers: limited }}")],
        filters,
        ..Edge::with_routes([
            "{ match: { path: { prefix: / } }, respond: { status: 200 }, policies: { rate_limit: many } }",
        ])
    };
    let gateway = Gateway::edge_only_on(
        &filters.name(&format!("many-keys-{scope}")),
        |stack| {
            stack.concurrency = 1;
            // What is asked is how much it holds, not how fast it is on a machine that does other things.
            stack.xds_arguments = ["--quota-timeout", "5s"].map(str::to_owned).to_vec();
            Ok(())
        },
        |ports| yaml.text(ports),
    )
    .unwrap();
    let resident = || resident_of(gateway.pid(Proxy::Edge).unwrap()).unwrap() >> 10;
    // What connections and buffers take is there before.
    crowd(gateway.ports().edge, "warm", keys / 100);
    let (before, started) = (resident(), Instant::now());
    crowd(gateway.ports().edge, "client", keys);
    let (after, time) = (resident(), started.elapsed());
    println!("{keys} keys, {scope} ({filters:?}), in {time:.1?}; Envoy has {before} KiB, then {after} KiB");
    assert!(after < before + most_mib * 1024, "{before} KiB, then {after} KiB\n{}", gateway.report());
}

/// As many keys as said, over several connections; every request is answered with 200.
fn crowd(port: u16, name: &str, keys: usize) {
    let each = keys / LIMITS / CONNECTIONS;
    thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(loopback(port)).unwrap();
                let mut answers = BufReader::new(stream.try_clone().unwrap());
                for number in 0..each {
                    let client = format!("{name}-{connection}-{number}");
                    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-client: {client}\r\n\r\n");
                    stream.write_all(request.as_bytes()).unwrap();
                    expect_200(&mut answers);
                }
            });
        }
    });
}

/// Reads one answer.
fn expect_200(answers: &mut impl BufRead) {
    let (mut head, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        assert!(answers.read_line(&mut line).unwrap() > 0, "the connection ended after {head}");
        head.push_str(&line.to_ascii_lowercase());
    }
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    answers.read_exact(&mut body).unwrap();
}
