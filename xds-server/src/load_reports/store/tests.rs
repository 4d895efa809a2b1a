//! What the store keeps, adds up and forgets.

use super::*;

const START: SystemTime = SystemTime::UNIX_EPOCH;

fn at(seconds: u64) -> SystemTime {
    START + Duration::from_secs(seconds)
}

fn load(successful: u64, errors: u64) -> Load {
    Load { successful, errors, issued: successful + errors, ..Load::default() }
}

fn report(clusters: &[(&str, Load)]) -> Report {
    let clusters = clusters.iter().map(|(name, load)| (name.to_string(), *load)).collect();
    Report { clusters, period: Duration::from_secs(10) }
}

fn store() -> Store {
    Store::new(LoadLimits { remember: Duration::from_secs(100), ..LoadLimits::default() })
}

fn all(store: &Store, group: &str) -> BTreeMap<String, ClusterLoad> {
    store.by_cluster(group, |_| true)
}

#[test]
fn reports_add_up_per_proxy_and_per_group() {
    let mut store = store();
    for node in ["one", "two"] {
        assert!(store.open("edge", node, at(0)));
        store.report("edge", node, report(&[("api", load(9, 1))]), at(10));
    }
    let last = Load { in_progress: 3, dropped: 2, ..load(5, 5) };
    store.report("edge", "two", report(&[("api", last), ("other", load(1, 0))]), at(20));

    let totals = store.totals("edge");
    assert_eq!(totals.iter().map(|p| p.node_id.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(totals[0].clusters, BTreeMap::from([("api".to_owned(), load(9, 1))]));
    assert_eq!(totals[1].clusters["api"], Load { in_progress: 3, dropped: 2, ..load(14, 6) });
    assert_eq!(totals[1].last_report, Some(at(20)));

    let api = all(&store, "edge")["api"];
    assert_eq!(api.total, Load { in_progress: 3, dropped: 2, ..load(23, 7) });
    // The last report of each: 9 of 10 and 5 of 10, in ten seconds.
    assert_eq!((api.requests_per_second, api.error_ratio), (2.0, Some(0.3)));
}

#[test]
fn a_cluster_without_requests_has_no_error_ratio() {
    let mut store = store();
    store.open("edge", "one", at(0));
    store.report("edge", "one", report(&[("api", load(1, 1))]), at(10));
    assert_eq!(all(&store, "edge")["api"].error_ratio, Some(0.5));
    // Neither reported as idle nor left out of the report.
    store.report("edge", "one", report(&[("api", load(0, 0))]), at(20));
    assert_eq!(all(&store, "edge")["api"].error_ratio, None);
    store.report("edge", "one", report(&[("api", load(1, 1))]), at(30));
    store.report("edge", "one", report(&[]), at(40));
    let api = all(&store, "edge")["api"];
    assert_eq!((api.error_ratio, api.requests_per_second, api.total), (None, 0.0, load(2, 2)));
}

#[test]
fn a_proxy_that_reconnects_goes_on_where_it_was() {
    let mut store = store();
    store.open("edge", "one", at(0));
    store.report("edge", "one", report(&[("api", load(1, 0))]), at(10));
    // The new stream may come before the old one is known to have ended.
    store.open("edge", "one", at(11));
    store.close("edge", "one", at(12));
    assert!(store.totals("edge")[0].connected);
    store.report("edge", "one", report(&[("api", load(1, 0))]), at(20));
    assert_eq!(store.totals("edge")[0].clusters["api"], load(2, 0));
}

#[test]
fn a_proxy_gone_for_long_is_forgotten_and_the_groups_totals_do_not_shrink() {
    let mut store = store();
    for node in ["gone", "stays"] {
        store.open("edge", node, at(0));
        store.report("edge", node, report(&[("api", load(5, 0)), (node, load(1, 0))]), at(0));
    }
    store.close("edge", "gone", at(10));
    assert_eq!(store.totals("edge").len(), 2, "it may only be reconnecting");
    store.report("edge", "stays", report(&[("api", load(1, 0)), ("stays", load(1, 0))]), at(90));
    store.report("edge", "stays", report(&[("api", load(1, 0))]), at(120));
    assert_eq!(store.totals("edge").len(), 1);
    assert_eq!(all(&store, "edge")["api"].total, load(12, 0));
    // Nobody reports this one any more.
    assert!(!all(&store, "edge").contains_key("gone"));

    store.close("edge", "stays", at(130));
    store.open("other", "x", at(240));
    assert_eq!(store.groups().collect::<Vec<_>>(), ["other"]);
    assert_eq!((store.proxies, store.clusters), (1, 0));
}

#[test]
fn what_peers_name_is_kept_up_to_the_limits() {
    let limits =
        LoadLimits { proxies: 2, clusters_per_proxy: 2, clusters: 3, name_bytes: 4, ..LoadLimits::default() };
    let mut store = Store::new(limits);
    assert!(store.open("edge", "one", at(0)) && store.open("made-up", "two", at(0)));
    assert!(!store.open("edge", "three", at(0)));
    assert!(store.open("edge", "one", at(0)), "it is known");

    let three = report(&[("a", load(1, 0)), ("b", load(1, 0)), ("c", load(1, 0))]);
    assert_eq!(store.report("edge", "one", three.clone(), at(1)), 1);
    assert_eq!(store.report("made-up", "two", three.clone(), at(1)), 2);
    assert_eq!(store.report("edge", "one", report(&[("too long", load(1, 0))]), at(1)), 1);
    // What is known still counts.
    assert_eq!(store.report("edge", "one", three, at(2)), 1);
    assert_eq!(store.totals("edge")[0].clusters["a"], load(2, 0));
    assert_eq!(all(&store, "edge").keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn numbers_past_what_fits_stay_at_the_most_that_does() {
    let mut store = store();
    store.open("edge", "one", at(0));
    let most = Load {
        successful: u64::MAX,
        errors: u64::MAX,
        issued: u64::MAX,
        dropped: u64::MAX,
        in_progress: u64::MAX,
    };
    for second in 0..3 {
        store.report("edge", "one", report(&[("api", most), ("api", most)]), at(second));
    }
    assert_eq!(all(&store, "edge")["api"].total, most);
}
