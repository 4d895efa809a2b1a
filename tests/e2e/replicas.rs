//! Several xds-servers behind one Envoy, whose bootstrap names all of them: it moves from one to the other, and notices
//! nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tollgate_tests::{
    envoy,
    gateway::EFFECT_DEADLINE,
    http_client::Client,
    load::{Load, RunningLoad},
    process::Process,
    render,
    replica::Replica,
    slow_link::SlowLink,
    stack::{read, write},
    wait::{holds, wait_until},
};

use crate::{
    etcd::{Fixture, gateway},
    yaml::{self, Edge},
};

/// An edge Envoy with one worker, so that all its requests see a change at once.
fn start_edge(fixture: &Fixture, replicas: &[&Replica]) -> Process {
    let original = read(&fixture.toolbox.envoy_config("edge.yaml")).unwrap();
    let bootstrap = render::bootstrap(&original, &fixture.ports).unwrap();
    let ports: Vec<u16> = replicas.iter().map(|replica| replica.grpc_port()).collect();
    let path = fixture.folder.join("edge.yaml");
    write(&path, &render::with_replicas(&bootstrap, &ports).unwrap()).unwrap();
    let command = envoy::serve(&fixture.toolbox, &path, 1).unwrap();
    let edge = Process::start("edge", command, fixture.folder.join("edge.log")).unwrap();
    edge.wait_until("being ready", EFFECT_DEADLINE * 2, || envoy::ready(fixture.ports.edge_admin)).unwrap();
    edge
}

/// Whether the replica has a proxy, which holds all that it is to have.
fn has_proxy(replica: &Replica) -> Result<bool> {
    let status = replica.status()?;
    let group = &status["groups"]["edge"];
    let has_all_types = status["proxies"][0]["types"].as_object().is_some_and(|types| {
        ["Cluster", "Listener", "RouteConfiguration", "Runtime"].iter().all(|wanted| {
            types
                .iter()
                .any(|(url, state)| url.ends_with(&format!(".{wanted}")) && state["acked"].is_string())
        })
    });
    Ok(group["arrived"] == 1 && group["proxies"] == 1 && has_all_types)
}

/// The one of two that has the proxy, and the other.
fn by_proxy(replicas: [&Replica; 2]) -> [&Replica; 2] {
    wait_until("the proxy on one of the replicas", EFFECT_DEADLINE, || {
        let [one, two] = replicas;
        // One of them may be down.
        match (has_proxy(one).unwrap_or(false), has_proxy(two).unwrap_or(false)) {
            (true, _) => Ok([one, two]),
            (_, true) => Ok([two, one]),
            _ => bail!("on none"),
        }
    })
    .unwrap()
}

#[test]
fn a_proxy_that_moves_to_another_replica_is_sent_nothing() {
    const PUSHES: &str = "tollgate_xds_pushes_total";
    let fixture = Fixture::start("moves");
    fixture.push(&[("a.yaml", &gateway("/first", &fixture.ports))]);
    let (one, two) = (fixture.replica("one"), fixture.replica("two"));
    one.start().unwrap();
    two.start().unwrap();
    let edge = start_edge(&fixture, &[&one, &two]);
    let [mut old, mut new] = by_proxy([&one, &two]);
    assert!(old.metric(PUSHES, &[]).unwrap() > 0.0);
    assert_eq!(new.metric(PUSHES, &[]).unwrap(), 0.0);

    for round in 1..=2 {
        old.kill().unwrap();
        wait_until("the move", EFFECT_DEADLINE, || holds(has_proxy(new)?)).unwrap();
        assert_eq!(new.metric(PUSHES, &[]).unwrap(), 0.0, "round {round}: {}\n{}", new.log(), edge.report());
        // It does follow the new one, which has the counters of a process that has just begun in the next round.
        old.start().unwrap();
        (old, new) = (new, old);
    }
    fixture.push(&[("a.yaml", &gateway("/second", &fixture.ports))]);
    wait_until("the edit", EFFECT_DEADLINE, || {
        Client::new(fixture.ports.edge).get("/second").send()?.expect_status(200).map(drop)
    })
    .unwrap();
    assert!(old.metric(PUSHES, &[]).unwrap() > 0.0);
}

/// A gateway whose answer on `/marker` is a number, and whose load's cluster is called by it, too.
fn marked(number: u64, fixture: &Fixture) -> String {
    let upstream = crate::upstreams::a().address();
    let edge = Edge {
        routes: vec![
            format!(
                "{{ match: {{ path: {{ exact: /marker }} }}, respond: {{ status: 200, body: \"{number}\" }} }}"
            ),
            yaml::prefix("/steady", &format!("renamed-{}", number / 3)),
        ],
        clusters: vec![format!("renamed-{}: {{ endpoints: [\"{upstream}\"] }}", number / 3)],
        ..Edge::default()
    };
    edge.text(&fixture.ports)
}

fn marker(port: u16) -> Result<u64> {
    let reply = Client::new(port).get("/marker").send()?.expect_status(200)?;
    reply.text().parse().context("no number")
}

#[test]
fn a_proxy_that_moves_to_a_replica_that_is_late_is_not_taken_back() {
    let fixture = Fixture::start("late");
    fixture.push(&[("a.yaml", &marked(0, &fixture))]);
    // etcd's words take so long; a proxy is back within half a second.
    let slow = SlowLink::from(fixture.etcd.port(), Duration::from_millis(300)).unwrap();
    let (fast, late) = (fixture.replica("fast"), fixture.replica_by("late", slow.port()));
    fast.start().unwrap();
    late.start().unwrap();
    let edge = start_edge(&fixture, &[&fast, &late]);
    let port = fixture.ports.edge;
    for number in 1..=6 {
        fixture.push(&[("a.yaml", &marked(number, &fixture))]);
        let arrived = wait_until("the edit", EFFECT_DEADLINE, || holds(marker(port)? == number));
        arrived.map_err(|why| format!("{why:#}\n{}", edge.report())).unwrap();
        let [serving, _] = by_proxy([&fast, &late]);
        if std::ptr::eq(serving, &fast) {
            fast.kill().unwrap();
            wait_until("the move", EFFECT_DEADLINE, || {
                assert_eq!(marker(port)?, number, "the late replica took it back");
                holds(has_proxy(&late)?)
            })
            .unwrap();
            assert_eq!(marker(port).unwrap(), number);
            fast.start().unwrap();
            // And back, which the next round begins with.
            late.kill().unwrap();
            wait_until("the way back", EFFECT_DEADLINE, || holds(has_proxy(&fast)?)).unwrap();
            late.start().unwrap();
        } else {
            late.kill().unwrap();
            wait_until("the fast one", EFFECT_DEADLINE, || holds(has_proxy(&fast)?)).unwrap();
            late.start().unwrap();
        }
        assert_eq!(marker(port).unwrap(), number);
    }
}

/// Goes on in threads of its own until it is stopped.
struct Background {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Background {
    fn run(mut self, mut step: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::clone(&self.stop);
        self.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                step();
            }
        }));
        self
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("nothing went back");
        }
    }
}

#[test]
fn replicas_and_etcd_killed_in_turn_under_load_fail_no_request_and_take_nothing_back() {
    let fixture = Arc::new(Fixture::start("killed-in-turn"));
    fixture.push(&[("a.yaml", &marked(0, &fixture))]);
    let (one, two) = (fixture.replica("one"), fixture.replica("two"));
    one.start().unwrap();
    two.start().unwrap();
    let edge = start_edge(&fixture, &[&one, &two]);
    let port = fixture.ports.edge;
    wait_until("the first answer", EFFECT_DEADLINE, || marker(port).map(drop)).unwrap();

    let load = Load::on(port).get("/steady", &[]).connections(8).rate(200.0).start();
    let (pushed, seen, back) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let editor = {
        let (fixture, pushed) = (Arc::clone(&fixture), Arc::clone(&pushed));
        move || {
            let next = pushed.load(Ordering::Relaxed) + 1;
            // While etcd is away, it is the same number again.
            if fixture.try_push(&[("a.yaml", &marked(next, &fixture))]).status.success() {
                pushed.store(next, Ordering::Relaxed);
            }
        }
    };
    let observer = {
        let (seen, back) = (Arc::clone(&seen), Arc::clone(&back));
        move || {
            let now = marker(port).expect("the marker is answered");
            let before = seen.fetch_max(now, Ordering::Relaxed);
            if now < before {
                eprintln!("the marker went from {before} back to {now}");
                back.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let background = Background { stop: Arc::default(), threads: Vec::new() }.run(editor).run(observer);
    let wait_for_edits = |load: &RunningLoad, more: u64| {
        let goal = pushed.load(Ordering::Relaxed) + more;
        let what = format!("edit {goal} at the proxy");
        let arrived = wait_until(&what, EFFECT_DEADLINE * 2, || {
            holds(seen.load(Ordering::Relaxed) >= goal)
                .with_context(|| format!("pushed {pushed:?}, seen {seen:?}"))
        });
        arrived.map_err(|why| format!("{why:#}\n{}\n{}", edge.report(), fixture.etcd.report())).unwrap();
        load.wait_for(20).unwrap();
    };

    wait_for_edits(&load, 3);
    for _round in 0..3 {
        let [serving, _] = by_proxy([&one, &two]);
        serving.kill().unwrap();
        wait_for_edits(&load, 5);
        serving.start().unwrap();
        wait_for_edits(&load, 2);

        // No edit is possible now; a replica that starts anew serves what it has on disk.
        fixture.etcd.kill().unwrap();
        load.wait_for(100).unwrap();
        let [serving, _] = by_proxy([&one, &two]);
        serving.kill().unwrap();
        load.wait_for(100).unwrap();
        serving.start().unwrap();
        load.wait_for(50).unwrap();
        fixture.etcd.restart().unwrap();
        wait_for_edits(&load, 3);
    }
    background.end();
    let report = load.stop().unwrap();
    let edits = pushed.load(Ordering::Relaxed);
    eprintln!("{report}; {edits} edits");
    assert_eq!(report.failures(), 0, "{report}");
    assert_eq!(back.load(Ordering::Relaxed), 0);
    assert!(report.requests() > 1_000, "{report}");
    // Both end at the last edit.
    for replica in [&one, &two] {
        let last = fixture.push(&[("a.yaml", &marked(edits, &fixture))]);
        replica.wait_for("the last edit", |status| status["config"]["version"] == *last).unwrap();
    }
}
