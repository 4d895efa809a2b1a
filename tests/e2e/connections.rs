//! Connections that outlive an edit: what is true of a new connection is true of one that was there before.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use tollgate_tests::{
    envoy,
    gateway::{EFFECT_DEADLINE, Gateway},
    ports::loopback,
    wait::{holds, wait_until},
};

use crate::yaml::{self, Edge};

/// A connection that is kept open.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(port: u16) -> Self {
        let stream = TcpStream::connect(loopback(port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(BufReader::new(stream))
    }

    /// Status and body; `None` where the peer has closed the connection.
    pub(crate) fn get(&mut self, path: &str, header: &str) -> Option<(u16, String)> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{header}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest.get(..3)?.parse().ok();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Some((status?, String::from_utf8(body).unwrap()))
    }
}

const SPOOFED: &str = "x-consumer-id: mallory";

#[test]
fn a_listener_s_first_policy_holds_on_connections_that_were_there_before() {
    let open = Edge::with_routes([&yaml::prefix("/", "a")]);
    let gateway = Gateway::edge_only("first-policy", |ports| open.text(ports)).unwrap();
    let ports = *gateway.ports();
    let mut old = Connection::open(ports.edge);
    let (status, seen) = old.get("/before", SPOOFED).unwrap();
    assert_eq!(status, 200);
    assert!(!seen.contains("mallory"), "the client said who it is: {seen}");

    let mut closed = open.clone();
    closed.routes = vec![
        "{ match: { path: { prefix: /admin } }, to: a, policies: { auth: keys } }".to_owned(),
        yaml::prefix("/", "a"),
    ];
    closed.auth = vec![format!(
        "keys: {{ any_of: [{{ api_key: {{ keys: [{{ sha256: {}, consumer: alice }}] }} }}] }}",
        "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    )];
    gateway.edit(|_| closed.text(&ports)).unwrap();
    gateway.wait_for_status("/admin", 401).unwrap();

    // Envoy may have closed it; it may not serve what a new connection is refused.
    if let Some((status, body)) = old.get("/admin", SPOOFED) {
        assert_eq!(status, 401, "{body}");
    }
    if let Some((status, seen)) = old.get("/after", SPOOFED) {
        assert_eq!(status, 200);
        assert!(!seen.contains("mallory"), "the client said who it is: {seen}");
    }
    let foo = "x-api-key: foo";
    let (status, seen) = Connection::open(ports.edge).get("/admin", foo).unwrap();
    assert!(status == 200 && seen.contains("alice"), "{status} {seen}");
}

#[test]
fn a_filter_s_configuration_changes_under_a_connection_that_stays_open() {
    const EDITS: usize = 10;
    let edited = |number: usize| {
        let key = yaml::api_key(&format!("key-{number}"), &format!("c-{number}"));
        Edge {
            routes: vec![
                "{ match: { path: { prefix: / } }, to: a, policies: { auth: keys, rate_limit: high } }"
                    .to_owned(),
            ],
            auth: vec![format!("keys: {{ any_of: [{{ api_key: {{ keys: [{key}] }} }}] }}")],
            rate_limit: vec![format!("high: {{ key: [consumer], limit: {}/s }}", 1_000 + number)],
            ..Edge::default()
        }
    };
    let gateway = Gateway::edge_only("ecds", |ports| edited(0).text(ports)).unwrap();
    let ports = *gateway.ports();
    let mut old = Connection::open(ports.edge);
    for number in 0..EDITS {
        gateway.edit(|_| edited(number).text(&ports)).unwrap();
        let key = format!("x-api-key: key-{number}");
        let seen = wait_until("the new key to be taken", EFFECT_DEADLINE, || {
            let (status, seen) = old.get("/", &key).expect("the connection is still open");
            holds(status == 200)?;
            Ok(seen)
        });
        assert!(seen.unwrap().contains(&format!("c-{number}")));
        let (status, _) =
            old.get("/", &format!("x-api-key: key-{}", number + 1)).expect("the connection is still open");
        assert_eq!(status, 401);
    }
    for stat in ["listener_manager.listener_modified", "listener_manager.total_listeners_draining"] {
        assert_eq!(envoy::stat(ports.edge_admin, stat).unwrap(), Some(0), "{stat}");
    }
}
