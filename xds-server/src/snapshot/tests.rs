//! Facts about snapshots: what is shared, what a version means, what the encodings decode to.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource as Envelope,
};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name as _};

use super::*;

fn snapshot(previous: &Snapshot, clusters: &[(&str, &str)]) -> Snapshot {
    let mut builder = SnapshotBuilder::replacing(previous);
    for (name, body) in clusters {
        builder.insert(&TypeUrl::CLUSTER, name, body.as_bytes());
    }
    builder.build()
}

#[test]
fn one_buffer_decodes_as_delta_and_as_state_of_the_world() {
    let body = vec![7u8; 300];
    let resource = Resource::new(&TypeUrl::CLUSTER, "a", "v1", &body);

    let delta = DeltaDiscoveryResponse::decode(resource.delta_frame()).unwrap();
    assert_eq!(delta.resources.len(), 1);
    let inner = &delta.resources[0];
    assert_eq!((inner.name.as_str(), inner.version.as_str()), ("a", "v1"));
    let any = inner.resource.as_ref().unwrap();
    assert_eq!((any.type_url.as_str(), &any.value[..]), (TypeUrl::CLUSTER.as_str(), &body[..]));

    let sotw = DiscoveryResponse::decode(resource.sotw_frame()).unwrap();
    assert_eq!(sotw.resources, vec![any.clone()]);
    assert_eq!(resource.body(), body);
    assert_eq!(resource.sotw_len(), resource.sotw_frame().len());
}

#[test]
fn an_empty_body_is_a_resource_too() {
    let resource = Resource::new(&TypeUrl::new("type.example/none"), "", "", b"");
    let delta = DeltaDiscoveryResponse::decode(resource.delta_frame()).unwrap();
    assert_eq!(delta.resources[0].resource.as_ref().unwrap().type_url, "type.example/none");
}

#[test]
fn an_unchanged_resource_keeps_its_allocation() {
    let first = snapshot(&Snapshot::default(), &[("a", "1"), ("b", "1")]);
    let second = snapshot(&first, &[("a", "1"), ("b", "2")]);
    let (one, two) = (first.set(&TypeUrl::CLUSTER), second.set(&TypeUrl::CLUSTER));
    assert!(Arc::ptr_eq(one.get("a").unwrap(), two.get("a").unwrap()));
    assert!(!Arc::ptr_eq(one.get("b").unwrap(), two.get("b").unwrap()));
}

#[test]
fn an_unchanged_type_keeps_its_set() {
    let first = snapshot(&Snapshot::default(), &[("a", "1")]);
    let second = snapshot(&first, &[("a", "1")]);
    assert!(Arc::ptr_eq(first.set(&TypeUrl::CLUSTER), second.set(&TypeUrl::CLUSTER)));
    assert_eq!(first.version(), second.version());
    assert!(second.changes_since(&first).is_empty());
}

#[test]
fn equal_content_has_equal_versions_whatever_its_history() {
    let direct = snapshot(&Snapshot::default(), &[("b", "2"), ("a", "1")]);
    let mut builder = SnapshotBuilder::editing(&snapshot(&Snapshot::default(), &[("a", "0"), ("c", "3")]));
    builder.remove(&TypeUrl::CLUSTER, "c");
    builder.insert(&TypeUrl::CLUSTER, "a", b"1").insert(&TypeUrl::CLUSTER, "b", b"2");
    let edited = builder.build();
    assert_eq!(edited.version(), direct.version());
    assert_eq!(edited.set(&TypeUrl::CLUSTER).version(), direct.set(&TypeUrl::CLUSTER).version());
    assert_eq!(edited.set(&TypeUrl::CLUSTER).delta_len(), direct.set(&TypeUrl::CLUSTER).delta_len());
}

#[test]
fn changes_name_what_was_added_changed_and_removed_and_are_computed_once() {
    let old = snapshot(&Snapshot::default(), &[("same", "1"), ("other", "1"), ("gone", "1")]);
    let new = snapshot(&old, &[("same", "1"), ("other", "2"), ("new", "1")]);
    let all = new.changes_since(&old);
    assert_eq!(all.len(), 1);
    let changed: Vec<_> = all[0].1.changed.iter().map(|r| r.name().to_string()).collect();
    assert_eq!(changed, ["new", "other"]);
    assert_eq!(all[0].1.removed.iter().map(|n| n.to_string()).collect::<Vec<_>>(), ["gone"]);
    assert!(Arc::ptr_eq(&all[0].1, &new.changes_since(&old)[0].1));
}

#[test]
fn a_type_that_lost_its_last_resource_reports_the_removal() {
    let old = snapshot(&Snapshot::default(), &[("a", "1")]);
    let new = snapshot(&old, &[]);
    assert_eq!(new.changes_since(&old)[0].1.removed.len(), 1);
    assert_eq!(new.version(), Snapshot::builder().build().version(), "empty is empty");
}

#[test]
fn a_known_version_is_not_encoded_again() {
    let mut builder = Snapshot::builder();
    builder.insert_with(&TypeUrl::ROUTE, "r", "v1", || b"first".to_vec());
    let first = builder.build();
    let mut builder = SnapshotBuilder::replacing(&first);
    builder.insert_with(&TypeUrl::ROUTE, "r", "v1", || panic!("encoded again"));
    let second = builder.build();
    assert_eq!(second.get(&TypeUrl::ROUTE, "r").unwrap().body(), "first");
}

#[test]
fn a_union_has_both_and_prefers_the_new() {
    let old = snapshot(&Snapshot::default(), &[("a", "1"), ("gone", "1")]);
    let new = snapshot(&old, &[("a", "2"), ("b", "1")]);
    let union = Snapshot::union(&old, &new);
    let set = union.set(&TypeUrl::CLUSTER);
    assert_eq!(set.iter().map(|r| r.name().to_string()).collect::<Vec<_>>(), ["a", "b", "gone"]);
    assert_eq!(set.get("a").unwrap().body(), "2");
}

/// `count` resources named by number.
fn many(previous: &Snapshot, count: usize) -> Snapshot {
    let mut builder = SnapshotBuilder::replacing(previous);
    for n in 0..count {
        builder.insert(&TypeUrl::CLUSTER, &format!("c{n:05}"), b"1");
    }
    builder.build()
}

#[test]
fn a_set_made_anew_differs_by_what_was_edited_or_left_out() {
    let old = many(&Snapshot::default(), 10_000);
    let mut builder = SnapshotBuilder::replacing(&old);
    for n in (0..10_000).filter(|n| *n != 17) {
        builder.insert(&TypeUrl::CLUSTER, &format!("c{n:05}"), if n == 4711 { b"2" } else { b"1" });
    }
    let new = builder.build();
    let changes = new.set(&TypeUrl::CLUSTER).changes_since(old.set(&TypeUrl::CLUSTER));
    assert_eq!(changes.changed.iter().map(|r| r.name().to_string()).collect::<Vec<_>>(), ["c04711"]);
    assert_eq!(changes.removed, [Arc::from("c00017")]);
}

#[test]
fn changes_are_right_whatever_the_two_sets_share() {
    // Every kind of edit near the borders of the map's nodes, against a comparison that knows nothing of nodes.
    let old = many(&Snapshot::default(), 2_000);
    let set = |snapshot: &Snapshot| snapshot.set(&TypeUrl::CLUSTER).clone();
    for stride in [1, 2, 3, 7, 15, 16, 17, 255, 256, 257, 1_999] {
        let mut builder = SnapshotBuilder::editing(&old);
        for n in (0..2_000).step_by(stride) {
            let name = format!("c{n:05}");
            match (n / stride) % 3 {
                0 => drop(builder.remove(&TypeUrl::CLUSTER, &name)),
                1 => drop(builder.insert(&TypeUrl::CLUSTER, &name, b"2").insert(
                    &TypeUrl::CLUSTER,
                    &format!("{name}a"),
                    b"1",
                )),
                _ => drop(builder.insert(&TypeUrl::CLUSTER, &name, b"1")),
            }
        }
        let (old, new) = (set(&old), set(&builder.build()));
        let changed = new.iter().filter(|r| old.get(r.name()).is_none_or(|o| o.version() != r.version()));
        let removed = old.iter().filter(|r| new.get(r.name()).is_none()).map(|r| r.name().clone());
        let changes = new.changes_since(&old);
        assert!(changes.changed.iter().eq(changed), "every {stride}th");
        assert!(changes.removed.iter().cloned().eq(removed), "every {stride}th");
    }
}

#[test]
fn an_any_of_an_unknown_type_is_served_under_its_hash_or_a_version_of_choice() {
    let any = Any { type_url: "type.example/thing".into(), value: b"body".to_vec() };
    let mut builder = Snapshot::builder();
    builder.insert_any("hashed", &any).insert_any_versioned("chosen", "v7", &any);
    let snapshot = builder.build();
    let get = |name| snapshot.get(&TypeUrl::new("type.example/thing"), name).unwrap().clone();
    assert_eq!(**get("hashed").version(), *content_version(b"body"));
    assert_eq!(&**get("chosen").version(), "v7");
    assert_eq!(get("chosen").body(), "body");
}

#[test]
fn a_type_is_cleared_and_the_others_stay() {
    let mut builder = SnapshotBuilder::editing(&snapshot(&Snapshot::default(), &[("a", "1"), ("b", "1")]));
    builder.insert(&TypeUrl::ROUTE, "r", b"1");
    let first = builder.build();
    let mut builder = SnapshotBuilder::editing(&first);
    builder.clear(&TypeUrl::CLUSTER).insert(&TypeUrl::CLUSTER, "c", b"1");
    let second = builder.build();
    assert_eq!(second.set(&TypeUrl::CLUSTER).iter().map(|r| r.name().to_string()).collect::<Vec<_>>(), ["c"]);
    assert!(Arc::ptr_eq(first.set(&TypeUrl::ROUTE), second.set(&TypeUrl::ROUTE)));
}

#[test]
fn one_edited_resource_is_all_that_differs() {
    let first = snapshot(&Snapshot::default(), &[("a", "1"), ("b", "1"), ("c", "1")]);
    let mut builder = SnapshotBuilder::editing(&first);
    builder.insert(&TypeUrl::CLUSTER, "b", b"2");
    let second = builder.build();
    let all = second.changes_since(&first);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].1.changed.iter().map(|r| r.name().to_string()).collect::<Vec<_>>(), ["b"]);
    assert!(all[0].1.removed.is_empty());
    assert_eq!(second.len(), 3);
}

#[test]
fn clients_that_list_the_same_names_share_one_list() {
    let snapshot = many(&Snapshot::default(), 100);
    let set = snapshot.set(&TypeUrl::CLUSTER);
    let names: Vec<String> = (0..100).step_by(2).map(|n| format!("c{n:05}")).collect();
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    let (first, second) = (set.select(&listed), set.select(&listed));
    assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &set.select_all(&first.names)));
    assert_eq!(first.found.iter().map(|r| r.name().to_string()).collect::<Vec<_>>(), names);
    let other = set.select(&listed[1..]);
    assert_eq!((other.found.len(), other.missing.len()), (49, 0));
}

#[test]
fn a_list_that_names_what_there_is_not_is_not_kept() {
    let snapshot = many(&Snapshot::default(), 100);
    let set = snapshot.set(&TypeUrl::CLUSTER);
    let names: Vec<String> = (0..100).map(|n| format!("c{n:05}x")).collect();
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    let selection = set.select(&listed);
    assert_eq!((selection.found.len(), selection.missing.len()), (0, 100));
    assert_eq!(Arc::strong_count(&selection), 1);
}

#[test]
fn types_sort_in_make_before_break_order() {
    let mut types = [
        TypeUrl::new("type.example/x"),
        TypeUrl::ROUTE,
        TypeUrl::LISTENER,
        TypeUrl::new(TypeUrl::CLUSTER.as_str()),
        TypeUrl::EXTENSION,
        TypeUrl::ENDPOINT,
    ];
    types.sort();
    let names: Vec<_> = types.iter().map(TypeUrl::short).collect();
    assert_eq!(names, ["CDS", "EDS", "ECDS", "LDS", "RDS", "other"]);
}

#[test]
fn an_eds_cluster_names_its_assignment() {
    let cluster = |kind: DiscoveryType, service: &str| {
        let message = Cluster {
            name: "c".into(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
            eds_cluster_config: Some(EdsClusterConfig { service_name: service.into(), ..Default::default() }),
            ..Default::default()
        };
        let resource = Resource::new(&TypeUrl::CLUSTER, "c", "1", &message.encode_to_vec());
        resource.eds_name().map(|name| name.to_string())
    };
    assert_eq!(cluster(DiscoveryType::Eds, "").as_deref(), Some("c"));
    assert_eq!(cluster(DiscoveryType::Eds, "svc").as_deref(), Some("svc"));
    assert_eq!(cluster(DiscoveryType::Static, "svc"), None);
}

#[test]
fn a_secret_never_shows_in_debug_output() {
    let resource = Resource::new(&TypeUrl::SECRET, "key", "1", b"hunter2");
    assert!(!format!("{resource:?}").contains("hunter2"));
}

#[test]
fn a_resource_with_a_time_to_live_is_wrapped_and_has_a_heartbeat() {
    let mut builder = Snapshot::builder();
    builder.insert(&TypeUrl::RUNTIME, "ever", b"body");
    builder.insert_expiring(&TypeUrl::RUNTIME, "a", Duration::from_millis(2500), b"body");
    builder.insert_expiring(&TypeUrl::RUNTIME, "b", Duration::from_millis(2501), b"body");
    let snapshot = builder.build();
    let get = |name: &str| snapshot.get(&TypeUrl::RUNTIME, name).unwrap();
    let (resource, set) = (get("a"), snapshot.set(&TypeUrl::RUNTIME));
    assert_eq!(**get("ever").version(), *content_version(b"body"), "no time to live, no other version");
    assert_ne!(resource.version(), get("b").version());
    assert_eq!(set.expiring().iter().map(|resource| &**resource.name()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(set.sotw_len(), set.iter().map(|resource| resource.sotw_frame().len()).sum::<usize>());

    let delta = |frame: &[u8]| DeltaDiscoveryResponse::decode(frame).unwrap().resources.remove(0);
    let sotw = |frame: &[u8]| {
        let any = DiscoveryResponse::decode(frame).unwrap().resources.remove(0);
        assert_eq!(any.type_url, Envelope::type_url());
        Envelope::decode(&*any.value).unwrap()
    };
    let full = delta(resource.delta_frame());
    assert_eq!((&*full.name, &*full.version), ("a", &**resource.version()));
    assert_eq!(full.ttl.map(|ttl| (ttl.seconds, ttl.nanos)), Some((2, 500_000_000)));
    assert_eq!(full.resource.as_ref().unwrap().value, b"body");
    assert_eq!(full.resource.as_ref().unwrap().type_url, TypeUrl::RUNTIME.as_str());
    assert_eq!(sotw(resource.sotw_frame()), full);
    let heartbeat = Envelope { resource: None, ..full };
    assert_eq!(delta(resource.delta_heartbeat()), heartbeat);
    assert_eq!(resource.body(), "body");

    let mut again = SnapshotBuilder::replacing(&snapshot);
    again.insert_expiring(&TypeUrl::RUNTIME, "a", Duration::from_millis(2500), b"body");
    let again = again.build();
    assert!(Arc::ptr_eq(again.get(&TypeUrl::RUNTIME, "a").unwrap(), resource));
}
