//! Every kind of match and action of the YAML does in Envoy what its name says.

use http::Method;
use tollgate_tests::{
    gateway::{Gateway, Shared},
    http_client::Reply,
    upstream::NAME_HEADER,
};

use crate::{
    upstreams::{header_seen, seen},
    yaml::Edge,
};

static GATEWAY: Shared = Shared::new(|| {
    let yaml = Edge::with_routes([
        "{ match: { path: { exact: /exact } }, to: a }",
        "{ match: { path: { regex: '/items/[0-9]+' } }, to: a }",
        "{ match: { path: { prefix: /methods }, methods: [PUT] }, to: a }",
        "{ match: { path: { prefix: /headers }, headers: { x-tenant: { exact: gold } } }, to: a }",
        "{ match: { path: { prefix: /query }, query: { page: { regex: '[0-9]+' } } }, to: a }",
        "{ match: { path: { prefix: /weights } }, to: [{ cluster: a, weight: 50 }, { cluster: b, weight: 50 }] }",
        "{ match: { path: { prefix: /never } }, to: [{ cluster: a, weight: 0 }, { cluster: b, weight: 1 }] }",
        "{ match: { path: { prefix: /old/ } }, to: a, rewrite: { prefix: /new/, host: inner.example } }",
        "{ match: { path: { prefix: /moved } }, redirect: { host: other.example, path: /here, status: 308 } }",
        "{ match: { path: { exact: /teapot } }, respond: { status: 418, body: short and stout } }",
        "{ match: { path: { prefix: /edited } }, to: a, headers: { request: { set: { x-set: new }, add: { x-add: more }, \
         remove: [x-gone] }, response: { set: { x-answer: edited } } } }",
        "{ match: { path: { prefix: /slow } }, to: a, timeout: 5s, retry: { on: [5xx, reset], attempts: 2, \
         per_try_timeout: 1s } }",
    ]);
    Gateway::edge_only("matches", |ports| yaml.text(ports))
});

fn get(path: &str) -> Reply {
    GATEWAY.get().edge().get(path).send().unwrap()
}

#[test]
fn each_match_takes_its_requests_and_no_others() {
    let rows = [
        ("/exact", 200),
        ("/exact/more", 404),
        ("/exact?with=query", 200),
        ("/items/42", 200),
        ("/items/42/parts", 404),
        ("/items/x", 404),
        ("/query?page=7", 200),
        ("/query?page=last", 404),
        ("/query", 404),
        ("/methods", 404),
        ("/headers", 404),
        ("/slow", 200),
        ("/nowhere", 404),
    ];
    for (path, status) in rows {
        assert_eq!(get(path).status, status, "{path}");
    }
}

#[test]
fn methods_and_headers_are_matched() {
    let gateway = GATEWAY.get();
    assert_eq!(gateway.edge().request(Method::PUT, "/methods").send().unwrap().status, 200);
    assert_eq!(gateway.edge().get("/headers").header("x-tenant", "gold").send().unwrap().status, 200);
    assert_eq!(gateway.edge().get("/headers").header("x-tenant", "golden").send().unwrap().status, 404);
}

#[test]
fn weights_split_requests() {
    let answers: Vec<Reply> = (0..60).map(|_| get("/weights")).collect();
    let of_a = answers.iter().filter(|reply| reply.header(NAME_HEADER) == Some("a")).count();
    assert!((5..=55).contains(&of_a), "{of_a} of 60 went to a");
    assert!((0..20).all(|_| get("/never").header(NAME_HEADER) == Some("b")));
}

#[test]
fn a_rewrite_changes_what_the_upstream_sees() {
    let reply = get("/old/page?x=1");
    assert_eq!(seen(&reply, "path"), "/new/page?x=1");
    assert_eq!(header_seen(&reply, "host"), ["inner.example"]);
}

#[test]
fn a_redirect_says_where() {
    let reply = get("/moved/away");
    assert_eq!(reply.status, 308);
    assert_eq!(reply.header("location"), Some("http://other.example/here"));
}

#[test]
fn a_direct_response_comes_from_the_edge() {
    let reply = get("/teapot");
    assert_eq!((reply.status, reply.text().as_str()), (418, "short and stout"));
    assert_eq!(reply.header(NAME_HEADER), None);
}

#[test]
fn headers_are_set_added_and_removed() {
    let request = GATEWAY.get().edge().get("/edited");
    let request = request.header("x-set", "old").header("x-add", "one").header("x-gone", "yes");
    let reply = request.send().unwrap();
    assert_eq!(header_seen(&reply, "x-set"), ["new"]);
    assert_eq!(header_seen(&reply, "x-gone"), Vec::<String>::new());
    assert_eq!(header_seen(&reply, "x-add").join(","), "one,more");
    assert_eq!(reply.header("x-answer"), Some("edited"));
}

#[test]
fn a_path_is_normalised_before_it_is_matched() {
    assert_eq!(get("/nowhere/../exact").status, 200);
    assert_eq!(get("/nowhere/%2e%2e/exact").status, 200);
    assert_eq!(get("//exact").status, 200);
}
