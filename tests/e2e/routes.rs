//! A route in the YAML is a route at the edge, as soon as the YAML is saved.

use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, Gateway, Shared},
    upstream::NAME_HEADER,
    wait::{holds, wait_until},
};

use crate::yaml::{self, Edge};

static GATEWAY: Shared = Shared::new(|| {
    let yaml = Edge::with_routes([&yaml::prefix("/always", "a")]);
    Gateway::edge_only("routes", |ports| yaml.text(ports))
});

#[test]
fn an_added_route_is_served() {
    let gateway = GATEWAY.get();
    assert_eq!(gateway.edge().get("/added").send().unwrap().status, 404);
    gateway.edit(|text| yaml::with_route(&text, &yaml::prefix("/added", "a"))).unwrap();
    gateway.wait_for_status("/added", 200).unwrap();
}

#[test]
fn a_changed_route_goes_to_its_new_cluster() {
    let gateway = GATEWAY.get();
    let (before, after) = (yaml::prefix("/changed", "a"), yaml::prefix("/changed", "b"));
    gateway.edit(|text| yaml::with_route(&text, &before)).unwrap();
    gateway.wait_for_status("/changed", 200).unwrap();
    gateway.edit(|text| text.replace(&before, &after)).unwrap();
    wait_until("an answer of the new cluster", EFFECT_DEADLINE, || {
        let reply = gateway.edge().get("/changed").send()?.expect_status(200)?;
        holds(reply.header(NAME_HEADER) == Some("b"))
    })
    .unwrap();
}

#[test]
fn a_removed_route_is_gone_and_its_neighbours_stay() {
    let gateway = GATEWAY.get();
    let route = yaml::prefix("/removed", "a");
    gateway.edit(|text| yaml::with_route(&text, &route)).unwrap();
    gateway.wait_for_status("/removed", 200).unwrap();
    gateway.edit(|text| yaml::without_route(&text, &route)).unwrap();
    gateway.wait_for_status("/removed", 404).unwrap();
    assert_eq!(gateway.edge().get("/always").send().unwrap().status, 200);
}

#[test]
fn the_first_route_that_matches_wins() {
    let gateway = GATEWAY.get();
    gateway.edit(|text| yaml::with_route(&text, &yaml::prefix("/order", "a"))).unwrap();
    gateway.edit(|text| yaml::with_route(&text, &yaml::prefix("/order/first", "b"))).unwrap();
    gateway.wait_for_status("/order/first", 200).unwrap();
    wait_until("an answer of the route that stands first", EFFECT_DEADLINE, || {
        let reply = gateway.edge().get("/order/first").send()?.expect_status(200)?;
        holds(reply.header(NAME_HEADER) == Some("b"))
    })
    .unwrap();
    assert_eq!(gateway.edge().get("/order").send().unwrap().header(NAME_HEADER), Some("a"));
}
