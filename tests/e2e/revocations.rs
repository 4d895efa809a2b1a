//! Revoked keys and tokens, through the API of the real api-service, at every worker of two Envoys.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{Value, json};
use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, Gateway},
    http_client::{Client, Reply, Request},
    stack::AnotherEdge,
    wait::{holds, wait_until},
};

use crate::{
    upstreams,
    yaml::{self, Filters},
};

const PASSWORD: &str = "correct horse battery staple";
/// What the issue promises.
const PROMISED: Duration = Duration::from_secs(2);
/// Requests in a row, each on a connection of its own, after which all four workers were met but for one chance in a
/// hundred million.
const ROUND: usize = 64;

/// The repository's own gateway on two Envoys, with keys that are remembered for longer than the test takes.
fn gateway(filters: Filters) -> Gateway {
    let gateway = Gateway::full(&filters.name("revocations"), |text, _| {
        let text = yaml::with_route(&filters.of(&text), &yaml::prefix("/protected/", "echo"));
        let cluster = format!("\nclusters:\n  echo: {{ endpoints: [\"{}\"] }}\n", upstreams::a().address());
        let text = text.replacen("\nclusters:\n", &cluster, 1);
        // The limit is not what is tested.
        let text = text.replace("limit: 100/s, burst: 200", "limit: 100000/s");
        text.replace("{ cluster: api-internal }", "{ cluster: api-internal, positive_ttl: 1h }")
    });
    let gateway = gateway.unwrap();
    let xds_port = gateway.ports().xds_grpc;
    gateway.add_edge(&AnotherEdge { id: "edge-2", labels: &[], xds_port }).unwrap();
    gateway
}

/// Registers an account and logs in.
fn log_in(gateway: &Gateway, name: &str) -> Value {
    let who = json!({ "email": format!("{name}@example.com"), "password": PASSWORD });
    gateway.edge().post("/v1/accounts").json(&who).send().unwrap().expect_status(201).unwrap();
    let session = gateway.edge().post("/v1/sessions").json(&who).send().unwrap();
    session.expect_status(201).unwrap().json().unwrap()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// How often api-service was asked about keys.
fn introspections(gateway: &Gateway) -> u64 {
    let metrics = Client::new(gateway.ports().api_internal).get("/metrics").send().unwrap().text();
    let of = |line: &str| {
        line.contains("/internal/v1/introspect") && line.starts_with("tollgate_api_http_requests_total")
    };
    let counts = metrics
        .lines()
        .filter(|line| of(line))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

/// Changes the policy, and waits until an Envoy has it.
fn change_realm(gateway: &Gateway, number: u32) {
    let name = |number: u32| number.checked_sub(1).map_or("tollgate".to_owned(), |n| format!("realm-{n}"));
    let (before, now) = (format!("realm: {}\n", name(number)), format!("realm: {}\n", name(number + 1)));
    gateway.edit(|text| text.replace(&before, &now)).unwrap();
    wait_until("the new realm", EFFECT_DEADLINE, || {
        let reply = gateway.edge().get("/protected/x").send()?;
        holds(reply.header("www-authenticate").is_some_and(|challenge| challenge.contains(&name(number + 1))))
    })
    .unwrap();
}

fn is_revoked(reply: &Reply, what: &str) -> bool {
    if reply.status == 200 {
        return false;
    }
    assert_eq!(reply.status, 401, "{what}: {}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert!(reply.text().contains("was revoked"), "{what}: {}", reply.text());
    true
}

/// Has every worker accept a request, then revokes, and tells how long some worker accepted it after that.
fn time_to_refuse(what: &str, request: impl Fn() -> Request, revoke: impl FnOnce()) -> Duration {
    for _ in 0..ROUND {
        request().send().unwrap().expect_status(200).unwrap();
    }
    revoke();
    let revoked_at = Instant::now();
    let (mut accepted_at, mut refused) = (revoked_at, 0);
    while refused < ROUND {
        match is_revoked(&request().send().unwrap(), what) {
            true => refused += 1,
            false => (accepted_at, refused) = (Instant::now(), 0),
        }
        assert!(revoked_at.elapsed() < EFFECT_DEADLINE, "{what} is still accepted");
    }
    accepted_at - revoked_at
}

#[test]
fn every_worker_of_every_envoy_refuses_what_was_revoked_within_two_seconds() {
    refuses_within_two_seconds(Filters::Wasm);
}

#[test]
fn every_worker_of_every_envoy_refuses_what_was_revoked_within_two_seconds_natively() {
    refuses_within_two_seconds(Filters::Native);
}

fn refuses_within_two_seconds(filters: Filters) {
    let gateway = gateway(filters);
    let session = log_in(&gateway, "ada");
    let token = text(&session, "access_token").to_owned();
    let mut times = VecDeque::new();
    for number in 0..5 {
        let key =
            gateway.edge().post("/v1/keys").bearer(&token).json(&json!({ "name": "k" })).send().unwrap();
        let key = key.expect_status(201).unwrap().json().unwrap();
        let with_key = || gateway.edge().get("/protected/x").header("x-api-key", text(&key, "key"));
        // A changed policy replaces the plugin that had a call under way.
        change_realm(&gateway, number);
        let before = introspections(&gateway);
        let mut asked = 0;
        let took = time_to_refuse("a key", with_key, || {
            asked = introspections(&gateway) - before;
            let path = format!("/v1/keys/{}", text(&key, "id"));
            let reply = gateway.edge().request(Method::DELETE, &path).bearer(&token).send().unwrap();
            reply.expect_status(204).unwrap();
        });
        assert!((1..=4).contains(&asked), "once a worker: {asked}");
        assert_eq!(introspections(&gateway), before + asked, "nobody asked when it was revoked");
        times.push_back(took);

        let session = log_in(&gateway, &format!("grace-{number}"));
        let with_token = || gateway.edge().get("/protected/x").bearer(text(&session, "access_token"));
        let took = time_to_refuse("a token", with_token, || {
            let refresh = json!({ "refresh_token": session["refresh_token"] });
            let reply = gateway.edge().request(Method::DELETE, "/v1/sessions").json(&refresh).send().unwrap();
            reply.expect_status(204).unwrap();
        });
        times.push_back(took);
        gateway.edge().get("/protected/x").bearer(&token).send().unwrap().expect_status(200).unwrap();
    }
    println!("until two Envoys of two workers ({filters:?}) refused a key, a token, a key, …: {times:?}");
    assert!(times.iter().all(|took| *took < PROMISED), "{times:?}");
}

#[test]
fn what_was_revoked_stays_so_while_its_service_is_away_also_for_an_envoy_that_comes_then() {
    stays_revoked(Filters::Wasm);
}

#[test]
fn what_was_revoked_stays_so_while_its_service_is_away_also_for_an_envoy_that_comes_then_natively() {
    stays_revoked(Filters::Native);
}

fn stays_revoked(filters: Filters) {
    let gateway = gateway(filters);
    let session = log_in(&gateway, "ada");
    let with_token = || gateway.edge().get("/protected/x").bearer(text(&session, "access_token"));
    time_to_refuse("a token", with_token, || {
        // A refresh token that comes twice ends its session, too.
        let refresh = || {
            gateway
                .edge()
                .post("/v1/sessions/refresh")
                .json(&json!({ "refresh_token": session["refresh_token"] }))
        };
        refresh().send().unwrap().expect_status(200).unwrap();
        refresh().send().unwrap().expect_status(401).unwrap();
    });
    let list = |status: &Value| status["revocations"].as_object().unwrap().values().next().cloned().unwrap();
    gateway.kill("api-service").unwrap();
    wait_until("the failure in /status", EFFECT_DEADLINE, || {
        holds(!list(&gateway.status()?)["error"].is_null())
    })
    .unwrap();
    for _ in 0..ROUND {
        assert!(is_revoked(&with_token().send().unwrap(), "a token"));
    }

    gateway.kill_xds_server().unwrap();
    gateway.restart_xds_server().unwrap();
    assert_eq!(list(&gateway.status().unwrap())["entries"], 1, "kept on disk");
    let xds_port = gateway.ports().xds_grpc;
    gateway.add_edge(&AnotherEdge { id: "edge-3", labels: &[], xds_port }).unwrap();
    gateway.kill("edge").unwrap();
    gateway.kill("edge-2").unwrap();
    wait_until("the new Envoy to refuse the token", EFFECT_DEADLINE, || {
        let reply = with_token().send()?;
        holds(reply.status == 401 && reply.text().contains("was revoked"))
    })
    .unwrap();
    for _ in 0..ROUND {
        assert!(is_revoked(&with_token().send().unwrap(), "a token"));
    }
}
