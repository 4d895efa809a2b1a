//! A million keys of local limits through a real Envoy: what it holds. Of shared limits, the test host's `many_keys` shows it.
//!
//! It prints its figures; `cargo test … -- many_keys --nocapture` shows them.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    thread,
    time::Instant,
};

use tollgate_tests::{gateway::Gateway, ports::loopback, stack::Proxy, usage::resident_of};

use crate::yaml::Edge;

const KEYS: usize = 1_000_000;
/// Limits of each request, and so keys: fewer requests make as many.
const LIMITS: usize = 10;
const CONNECTIONS: usize = 16;

#[test]
fn a_million_keys_of_local_limits_do_not_grow_an_envoy() {
    let limit = "key: [{ header: x-client }], limit: 100/s";
    let also = vec![format!("{{ {limit} }}"); LIMITS - 1].join(", ");
    let yaml = Edge {
        rate_limit: vec![format!("local: {{ {limit}, also: [{also}], headers: limited }}")],
        ..Edge::with_routes([
            "{ match: { path: { prefix: / } }, respond: { status: 200 }, policies: { rate_limit: local } }",
        ])
    };
    let gateway = Gateway::single_worker("many-keys", |ports| yaml.text(ports)).unwrap();
    let resident = || resident_of(gateway.pid(Proxy::Edge).unwrap()).unwrap() >> 10;
    // What connections and buffers take is there before.
    crowd(gateway.ports().edge, "warm", KEYS / 100);
    let (before, started) = (resident(), Instant::now());
    crowd(gateway.ports().edge, "client", KEYS);
    let (after, time) = (resident(), started.elapsed());
    println!("{KEYS} keys in {time:.1?}; Envoy has {before} KiB, then {after} KiB");
    assert!(after < before + 16 * 1024, "{before} KiB, then {after} KiB");
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
