//! What routes require beyond their auth policy, from the YAML to what a caller is told, also while it is edited.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, Gateway},
    http_client::Reply,
    ports::loopback,
    wait::{holds, wait_until},
};

use crate::yaml::{self, Edge, Filters};

/// A gateway whose callers have a key with the scope `read`.
fn gateway(name: &str, routes: &[&str]) -> Gateway {
    let mut yaml =
        Edge { routes: routes.iter().map(|route| (*route).to_owned()).collect(), ..Edge::default() };
    let key = yaml::api_key("reader", "ada, claims: { scope: read, plan: gold }");
    yaml.auth.push(format!("keys: {{ any_of: [{{ api_key: {{ keys: [{key}] }} }}] }}"));
    Gateway::edge_only(name, |ports| yaml.text(ports)).unwrap()
}

fn get(gateway: &Gateway, path: &str) -> Reply {
    gateway.edge().get(path).header("x-api-key", "reader").send().unwrap()
}

#[test]
fn a_caller_needs_what_the_route_requires() {
    let gateway = gateway(
        "requirements",
        &[
            "{ match: { path: { prefix: /read } }, to: a, policies: { auth: keys, required_scopes: [read] } }",
            "{ match: { path: { prefix: /write } }, to: a, policies: { auth: keys, required_scopes: [read, write] } }",
            "{ match: { path: { prefix: /gold } }, to: a, policies: { auth: keys, required_claims: [{ claim: plan, any_of: [gold] }] } }",
            "{ match: { path: { prefix: /iron } }, to: a, policies: { auth: keys, required_claims: [{ claim: plan, any_of: [iron] }] } }",
            "{ match: { path: { prefix: /any } }, to: a, policies: { auth: keys } }",
        ],
    );
    for (path, status) in [("/read", 200), ("/write", 403), ("/gold", 200), ("/iron", 403), ("/any", 200)] {
        for _ in 0..2 {
            let reply = get(&gateway, path);
            assert_eq!(reply.status, status, "{path}: {}", reply.text());
        }
    }
    let reply = get(&gateway, "/write");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.json().unwrap()["code"], "insufficient_scope");
    let challenge = reply.header("www-authenticate").unwrap_or_default();
    assert!(challenge.ends_with("scope=\"read write\""), "{challenge}");
    assert_eq!(get(&gateway, "/iron").json().unwrap()["code"], "insufficient_claims");
    assert_eq!(gateway.edge().get("/read").send().unwrap().status, 401);
}

/// The filter's configuration and the routes travel apart: whichever comes first, nobody passes between them.
#[test]
fn an_edit_of_what_is_required_lets_nobody_through_on_its_way() {
    let required = |scope: &str| format!("required_scopes: [{scope}]");
    let route = format!(
        "{{ match: {{ path: {{ prefix: / }} }}, to: a, policies: {{ auth: keys, {} }} }}",
        required("scope-0")
    );
    let gateway = gateway("requirement-edits", &[&route]);
    for edit in 1..=10 {
        let [old, new] = [edit - 1, edit].map(|number| format!("scope-{number}"));
        gateway.edit(|text| text.replace(&required(&old), &required(&new))).unwrap();
        let deadline = Instant::now() + EFFECT_DEADLINE;
        // One request after another, so that one of them is there whatever comes first.
        loop {
            let reply = get(&gateway, "/x");
            assert_eq!(reply.status, 403, "after {old}: {}", reply.text());
            let challenge = reply.header("www-authenticate").unwrap_or_default();
            if challenge.contains(&format!("scope=\"{new}\"")) {
                break;
            }
            assert!(Instant::now() < deadline, "{new} is not required yet: {challenge}");
        }
    }
    gateway.edit(|text| text.replace(&required("scope-10"), &required("read"))).unwrap();
    wait_until("a scope that the caller has", EFFECT_DEADLINE, || get(&gateway, "/x").expect_status(200))
        .unwrap();
}

/// Envoy goes back to the context of the first configuration without configuring it, as a stream holds it still.
#[test]
fn what_is_taken_back_while_a_stream_is_open_counts_as_before() {
    counts_as_before(Filters::Wasm);
}

#[test]
fn what_is_taken_back_while_a_stream_is_open_counts_as_before_natively() {
    counts_as_before(Filters::Native);
}

fn counts_as_before(filters: Filters) {
    let yaml = |realm: &str| {
        let mut yaml = Edge { filters, ..Edge::with_routes([&yaml::prefix("/open", "a")]) };
        yaml.routes.push("{ match: { path: { prefix: / } }, to: a, policies: { auth: keys } }".to_owned());
        let key = yaml::api_key("reader", "ada");
        yaml.auth.push(format!("keys: {{ realm: {realm}, any_of: [{{ api_key: {{ keys: [{key}] }} }}] }}"));
        yaml
    };
    let gateway =
        Gateway::single_worker(&filters.name("taken-back"), |ports| yaml("first").text(ports)).unwrap();
    let realm_is = |realm: &str| {
        let reply = gateway.edge().get("/").send()?;
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        holds(reply.status == 401 && challenge.contains(realm))
    };
    realm_is("first").unwrap();
    let mut open = TcpStream::connect(loopback(gateway.ports().edge)).unwrap();
    open.write_all(b"POST /open HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf ").unwrap();
    for (from, to) in [("first", "second"), ("second", "first")] {
        let change = |text: String| text.replace(&format!("realm: {from}"), &format!("realm: {to}"));
        gateway.edit(change).unwrap();
        wait_until("the other realm", EFFECT_DEADLINE, || realm_is(to)).unwrap();
    }
    // Longer than the filter takes to forget contexts that are gone.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        realm_is("first").unwrap_or_else(|error| panic!("{error:#}\n{}", gateway.report()));
    }
    let reply = gateway.edge().get("/").header("x-api-key", "reader").send().unwrap();
    assert_eq!(reply.status, 200);
    open.write_all(b"body.").unwrap();
}
