//! What the steps from YAML to a client's response cost, each on its own: load, translate, edit and diff, session.
//!
//! `cargo bench -p xds-server --features criterion`. Not here: sockets and many clients, which `make bench` measures.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that can't be set up is to stop")]

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_server::discovery::session::{Flavour, Request, Response, Scope, Session, SessionLimits};
use xds_server::gateway::{Gateway, SourceFile, load};
use xds_server::snapshot::{Snapshot, SnapshotBuilder, TypeUrl};
use xds_server::translate::{KeySets, Modules, QuotaService, Target, translate};

const FEW: usize = 1_000;
const MANY: usize = 100_000;

criterion_group!(benches, loading, translation, editing, one_change, reconnection);
criterion_main!(benches);

/// The YAML of a whole gateway, read and checked, as after each edit.
fn loading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    for routes in [100, 1_000] {
        let text = yaml(routes);
        group.bench_function(BenchmarkId::from_parameter(routes), |bencher| {
            bencher.iter(|| gateway(black_box(text.clone())));
        });
    }
}

/// That gateway made into resources, and those into a snapshot.
fn translation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("translate");
    for routes in [100, 1_000] {
        let gateway = gateway(yaml(routes));
        let (keys, modules) = (KeySets::default(), Modules::Folder("/wasm".into()));
        let address = "127.0.0.1:18002".parse().unwrap();
        let quota = QuotaService { address, timeout: Duration::from_millis(500) };
        let target =
            Target { serving: &gateway, present: &[&gateway], keys: &keys, modules: &modules, quota: &quota };
        let mut before = Snapshot::default();
        group.bench_function(BenchmarkId::from_parameter(routes), |bencher| {
            bencher.iter(|| {
                let mut builder = SnapshotBuilder::replacing(&before);
                for resource in translate("edge", black_box(target)) {
                    builder.insert(&TypeUrl::new(&resource.type_url), &resource.name, &resource.body);
                }
                before = builder.build();
            });
        });
    }
}

/// One resource of many is edited, and compared with what was.
fn editing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("edit and diff");
    for count in [FEW, MANY] {
        let before = snapshot(count);
        let mut edit = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                edit += 1;
                let after = edited(&before, edit);
                assert_eq!(after.changes_since(&before).len(), 1);
                after
            });
        });
    }
}

/// A client of all clusters and their endpoints takes one changed cluster, and accepts it.
fn one_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session, one change");
    for count in [FEW, MANY] {
        let before = Arc::new(snapshot(count));
        let after = Arc::new(edited(&before, 1));
        let mut session = connected(&before, count);
        let mut turns = [after, before].into_iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                let responses = session.on_snapshot(turns.next());
                assert_eq!(responses.len(), 2, "the cluster, and its endpoints again");
                responses.iter().for_each(|response| accept(&mut session, response));
            });
        });
    }
}

/// A client comes back with the versions of all clusters, of which one changed.
fn reconnection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session, reconnect");
    group.sample_size(10);
    let before = snapshot(MANY);
    let after = Arc::new(edited(&before, 1));
    let held = before.set(&TypeUrl::CLUSTER).iter();
    let held = held.map(|resource| (resource.name().to_string(), resource.version().to_string()));
    let request = DeltaDiscoveryRequest {
        type_url: TypeUrl::CLUSTER.to_string(),
        initial_resource_versions: held.collect(),
        ..Default::default()
    };
    group.bench_function(BenchmarkId::from_parameter(MANY), |bencher| {
        let setup = || request.clone();
        bencher.iter_batched(
            setup,
            |request| {
                let mut session = new_session(&after);
                let responses = ask(&mut session, request);
                assert_eq!(responses[0].payload.len(), 1);
                session
            },
            BatchSize::PerIteration,
        );
    });
}

fn yaml(routes: usize) -> String {
    let mut text = String::from(
        "version: v1\nproxies: { edge: { listeners: [public] } }\nlisteners:\n  public:\n    address: 127.0.0.1:10000\n    \
         virtual_hosts:\n      - name: all\n        hosts: [\"*\"]\n        routes:\n",
    );
    for n in 0..routes {
        let _ = writeln!(text, "          - {{ match: {{ path: {{ prefix: /{n}/ }} }}, to: cluster-{n} }}");
    }
    text += "clusters:\n";
    for n in 0..routes {
        let _ = writeln!(text, "  cluster-{n}: {{ endpoints: [\"127.0.0.1:8080\"] }}");
    }
    text
}

fn gateway(text: String) -> Gateway {
    let files = vec![SourceFile { path: "gateway.yaml".into(), text }];
    load(files).unwrap_or_else(|report| panic!("{report}")).gateway
}

fn snapshot(count: usize) -> Snapshot {
    let mut builder = Snapshot::builder();
    for n in 0..count {
        let name = name(n);
        builder.insert_message(&name, &cluster(&name));
        builder.insert(&TypeUrl::ENDPOINT, &name, format!("endpoints of {name}").as_bytes());
    }
    builder.build()
}

fn edited(snapshot: &Snapshot, edit: usize) -> Snapshot {
    let name = name(FEW / 2);
    let mut builder = SnapshotBuilder::editing(snapshot);
    builder.insert_message(&name, &Cluster { alt_stat_name: edit.to_string(), ..cluster(&name) });
    builder.build()
}

fn name(n: usize) -> String {
    format!("cluster-{n:06}")
}

fn cluster(name: &str) -> Cluster {
    let kind = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
    Cluster { name: name.into(), cluster_discovery_type: kind, ..Default::default() }
}

fn new_session(snapshot: &Arc<Snapshot>) -> Session {
    let mut session = Session::new(Flavour::Delta, Scope::Aggregated, SessionLimits::default());
    session.on_snapshot(Some(snapshot.clone()));
    session
}

/// A session whose client has everything.
fn connected(snapshot: &Arc<Snapshot>, count: usize) -> Session {
    let mut session = new_session(snapshot);
    for (type_url, names) in
        [(TypeUrl::CLUSTER, vec!["*".into()]), (TypeUrl::ENDPOINT, (0..count).map(name).collect())]
    {
        let (type_url, resource_names_subscribe) = (type_url.to_string(), names);
        let request = DeltaDiscoveryRequest { type_url, resource_names_subscribe, ..Default::default() };
        let responses = ask(&mut session, request);
        responses.iter().for_each(|response| accept(&mut session, response));
    }
    session
}

fn accept(session: &mut Session, response: &Response) {
    let (type_url, response_nonce) = (response.type_url.to_string(), response.nonce.to_string());
    let more = ask(session, DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() });
    assert!(more.is_empty(), "an ACK is never answered");
}

fn ask(session: &mut Session, request: DeltaDiscoveryRequest) -> Vec<Response> {
    session.on_request(Request::Delta(request), SystemTime::UNIX_EPOCH).unwrap().responses
}
