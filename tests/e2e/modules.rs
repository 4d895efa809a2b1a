//! The filters' modules over HTTP: fetched before they are needed, swapped under load, and at no moment missing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use http::Method;
use sha2::{Digest, Sha256};
use tollgate_tests::{
    envoy,
    gateway::{EFFECT_DEADLINE, Gateway},
    http_client::Client,
    load::{Load, RunningLoad},
    ports::{Ports, free},
    process::Process,
    render,
    stack::{Stack, read},
    toolbox::Toolbox,
    wait::{holds, wait_until},
    work_dir,
};

use crate::{
    connections::Connection,
    yaml::{self, Edge},
};
use relay::{Fetch, Relay};

mod relay;

/// Every route asks for the key `foo`.
fn closed() -> Edge {
    let mut edge = Edge::with_routes(["{ match: { path: { prefix: / } }, to: a, policies: { auth: keys } }"]);
    edge.auth = vec![format!(
        "keys: {{ any_of: [{{ api_key: {{ keys: [{{ sha256: {}, consumer: alice }}] }} }}] }}",
        "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    )];
    edge
}

/// A gateway whose modules are files of its own, fetched through a relay.
struct Modules {
    gateway: Gateway,
    folder: PathBuf,
    relay: Relay,
}

impl Modules {
    fn start(name: &str) -> Self {
        let (folder, mut relay) = (copied(name), None);
        let gateway = Gateway::edge_only_on(
            name,
            |stack| {
                let started = relay.insert(Relay::start(stack.ports.xds_http));
                stack.toolbox.wasm.clone_from(&folder);
                stack.xds_arguments = vec![format!("--wasm-url=http://{}", started.address())];
                Ok(())
            },
            |ports| closed().text(ports),
        );
        Self { gateway: gateway.unwrap(), folder, relay: relay.unwrap() }
    }

    /// Waits until Envoy's filters run this module.
    fn wait_for(&self, name: &str, sha256: &str) {
        let admin = Client::new(self.gateway.ports().edge_admin);
        wait_until(&format!("{name} {sha256}"), EFFECT_DEADLINE, || {
            let dump = admin.get("/config_dump?resource=ecds_filters").send()?.text();
            holds(dump.contains(&format!("/wasm/{sha256}/{name}.wasm"))).with_context(|| dump)
        })
        .unwrap();
    }

    /// Envoy has taken all that it was sent, and closed no connection for it.
    fn assert_smooth(&self) {
        let status = self.gateway.status().unwrap();
        let types = status["proxies"][0]["types"].as_object().unwrap();
        assert!(types.values().all(|of_type| of_type["nack"].is_null()), "{status:#}");
        for stat in ["listener_modified", "total_listeners_draining", "total_filter_chains_draining"] {
            let stat = format!("listener_manager.{stat}");
            assert_eq!(envoy::stat(self.gateway.ports().edge_admin, &stat).unwrap(), Some(0), "{stat}");
        }
    }

    fn load(&self) -> RunningLoad {
        let load = Load::on(self.gateway.ports().edge).get("/steady", &[("x-api-key", "foo")]);
        let load = load.connections(8).rate(300.0).start();
        load.wait_for(50).unwrap();
        load
    }
}

/// A folder with the filters, to be changed.
fn copied(name: &str) -> PathBuf {
    let folder = work_dir::new(name).unwrap();
    fs::copy(Toolbox::find().unwrap().wasm.join("gateway.wasm"), folder.join("gateway.wasm")).unwrap();
    folder
}

/// The same module with one more custom section, which changes nothing but its SHA-256.
fn tagged(module: &[u8], tag: u8) -> Vec<u8> {
    [module, &[0, 5, 3, b't', b'a', b'g', tag]].concat()
}

/// Renames a module over the old one, and gives its SHA-256.
fn put(folder: &Path, name: &str, module: &[u8]) -> String {
    fs::write(folder.join("new"), module).unwrap();
    fs::rename(folder.join("new"), folder.join(format!("{name}.wasm"))).unwrap();
    Sha256::digest(module).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Calls without a key, on one connection that it keeps, and counts the answers.
struct Intruder {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<Result<u32, String>>,
}

impl Intruder {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let calls = thread::spawn(move || {
            let (mut connection, mut refused) = (Connection::open(port), 0);
            while !until.load(Ordering::Relaxed) {
                match connection.get("/steady", "x-nothing: here") {
                    Some((401, _)) => refused += 1,
                    Some((status, body)) => return Err(format!("call {refused} got {status} {body}")),
                    None => return Err(format!("call {refused} lost its connection")),
                }
            }
            Ok(refused)
        });
        Self { stop, calls }
    }

    /// Every call was refused, on the first connection.
    fn assert_refused(self) {
        self.stop.store(true, Ordering::Relaxed);
        let refused = self.calls.join().unwrap().unwrap();
        assert!(refused > 100, "only {refused} calls");
    }
}

#[test]
fn a_changed_module_is_taken_up_without_a_failed_or_an_unchecked_request() {
    let modules = Modules::start("modules-swap");
    let load = modules.load();
    let intruder = Intruder::start(modules.gateway.ports().edge);
    let originals = ["gateway"].map(|name| {
        let path = modules.folder.join(format!("{name}.wasm"));
        (name, fs::read(path).unwrap())
    });
    let fates = [
        vec![],
        vec![Fetch::ComesLate, Fetch::ComesLate],
        vec![Fetch::Fails, Fetch::ComesBroken, Fetch::Fails, Fetch::ComesBroken],
    ];
    for (round, fate) in (1..).zip(&fates) {
        modules.relay.next(fate);
        let changed = originals
            .each_ref()
            .map(|(name, module)| (*name, put(&modules.folder, name, &tagged(module, round))));
        for (name, sha256) in &changed {
            modules.wait_for(name, sha256);
        }
        load.wait_for(50).unwrap();
    }
    let report = load.stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.failures(), 0, "{report}");
    intruder.assert_refused();
    modules.assert_smooth();
    assert!(modules.relay.seen() >= 6, "{} fetches", modules.relay.seen());
}

#[test]
fn an_xds_server_that_comes_back_with_other_modules_fails_no_request() {
    let modules = Modules::start("modules-upgrade");
    let load = modules.load();
    let intruder = Intruder::start(modules.gateway.ports().edge);
    let original = fs::read(modules.folder.join("gateway.wasm")).unwrap();
    for round in 1..=2 {
        modules.gateway.kill_xds_server().unwrap();
        let sha256 = put(&modules.folder, "gateway", &tagged(&original, round));
        modules.relay.next(&[Fetch::ComesLate]);
        modules.gateway.restart_xds_server().unwrap();
        modules.wait_for("gateway", &sha256);
        load.wait_for(50).unwrap();
    }
    let report = load.stop().unwrap();
    eprintln!("{report}");
    assert_eq!(report.failures(), 0, "{report}");
    intruder.assert_refused();
    modules.assert_smooth();
}

#[test]
fn a_module_that_is_cut_short_is_reported_and_the_one_before_stays() {
    let modules = Modules::start("modules-bad");
    let original = fs::read(modules.folder.join("gateway.wasm")).unwrap();
    let mark = modules.gateway.xds_log_end().unwrap();
    put(&modules.folder, "gateway", &original[..original.len() / 2]);
    let entry = modules.gateway.wait_for_entry("filter refused", mark).unwrap();
    assert_eq!(entry.field("module").as_deref(), Some("gateway"), "{entry:?}");
    let shown = &modules.gateway.status().unwrap()["modules"]["gateway"];
    assert!(shown["error"].as_str().unwrap().contains("cut short"), "{shown}");
    assert_eq!(modules.gateway.edge().get("/").send().unwrap().status, 401);

    let sha256 = put(&modules.folder, "gateway", &tagged(&original, 1));
    modules.wait_for("gateway", &sha256);
    let shown = &modules.gateway.status().unwrap()["modules"]["gateway"];
    assert!(shown["error"].is_null() && shown["sha256"] == sha256.as_str(), "{shown}");
    modules.assert_smooth();
}

#[test]
fn an_envoy_that_can_t_fetch_its_filters_does_not_serve_without_them() {
    let modules = Modules::start("modules-start");
    let gateway = &modules.gateway;
    modules.relay.next(&[Fetch::Fails; 1_000]);
    let ports = Ports { edge: free().unwrap(), edge_admin: free().unwrap(), ..*gateway.ports() };
    let other = gateway.ports().edge;
    // Another group, so that the new Envoy has a listener of its own.
    gateway
        .edit(|text| {
            let text = text.replace(
                "edge: { listeners: [public] }",
                "edge: { listeners: [public] }, late: { listeners: [late] }",
            );
            let listener = text[text.find("  public:").unwrap()..text.find("clusters:").unwrap()].to_owned();
            let late =
                listener.replace("  public:", "  late:").replace(&other.to_string(), &ports.edge.to_string());
            text.replacen("clusters:", &format!("{late}clusters:"), 1)
        })
        .unwrap();
    wait_until("the group", EFFECT_DEADLINE, || holds(gateway.status()?["groups"]["late"].is_object()))
        .unwrap();

    let bootstrap = read(&gateway.toolbox().envoy_config("edge.yaml")).unwrap();
    let bootstrap = bootstrap.replace("cluster: edge", "cluster: late");
    let folder = work_dir::new("modules-start-envoy").unwrap();
    let path = folder.join("late.yaml");
    fs::write(&path, render::bootstrap(&bootstrap, &ports).unwrap()).unwrap();
    let seen = modules.relay.seen();
    let envoy = Process::start(
        "Envoy (late)",
        envoy::serve(gateway.toolbox(), &path, 1).unwrap(),
        folder.join("envoy.log"),
    )
    .unwrap();
    envoy
        .wait_until("fetches that fail", EFFECT_DEADLINE, || holds(modules.relay.seen() > seen + 4))
        .unwrap();
    assert!(envoy::ready(ports.edge_admin).is_err(), "{}", envoy.report());
    assert!(Client::new(ports.edge).get("/").send().is_err(), "it serves without filters");

    modules.relay.next(&[]);
    let first = envoy
        .wait_until("the first answer", Duration::from_secs(60), || Client::new(ports.edge).get("/").send())
        .unwrap();
    assert_eq!(first.status, 401);
}

#[test]
fn envoys_that_have_the_filters_as_files_fetch_nothing() {
    let from_files = |stack: &mut Stack| {
        stack.xds_arguments = vec!["--wasm-delivery=file".to_owned()];
        Ok(())
    };
    let gateway = Gateway::edge_only_on("modules-file", from_files, |ports| closed().text(ports)).unwrap();
    gateway.wait_for_status("/", 401).unwrap();
    let clusters = Client::new(gateway.ports().edge_admin).get("/clusters").send().unwrap().text();
    assert!(!clusters.contains("tollgate/wasm"), "{clusters}");
    gateway.xds().get("/wasm/").send().unwrap().expect_status(404).unwrap();
}

#[test]
fn modules_are_served_by_their_sha256_and_nothing_else_is() {
    let edge = Edge::with_routes([&yaml::prefix("/", "a")]);
    let gateway = Gateway::edge_only("modules-http", |ports| edge.text(ports)).unwrap();
    let module = fs::read(gateway.toolbox().wasm.join("gateway.wasm")).unwrap();
    let sha256 = gateway.status().unwrap()["modules"]["gateway"]["sha256"].as_str().unwrap().to_owned();
    let path = format!("/wasm/{sha256}/gateway.wasm");

    let whole = gateway.xds().get(&path).send().unwrap().expect_status(200).unwrap();
    assert!(whole.body == module);
    let length = module.len().to_string();
    let tag = format!("\"{sha256}\"");
    for (name, value) in [
        ("content-type", "application/wasm"),
        ("content-length", &*length),
        ("etag", &*tag),
        ("cache-control", "public, max-age=31536000, immutable"),
    ] {
        assert_eq!(whole.header(name), Some(value));
    }
    let head = gateway.xds().request(Method::HEAD, &path).send().unwrap().expect_status(200).unwrap();
    assert!(head.body.is_empty() && head.header("content-length") == Some(&*length), "{head:?}");
    gateway.xds().get(&path).header("if-none-match", &tag).send().unwrap().expect_status(304).unwrap();
    gateway.xds().post(&path).send().unwrap().expect_status(405).unwrap();
    for unknown in [
        format!("/wasm/{}/gateway.wasm", "0".repeat(64)),
        format!("/wasm/{sha256}/auth.wasm"),
        format!("/wasm/{sha256}/gateway"),
        format!("/wasm/{sha256}/../gateway.wasm"),
        format!("/wasm/{sha256}/%2e%2e%2fwasm%2fgateway.wasm"),
        format!("/wasm/{sha256}/host_guest.wasm"),
        "/wasm/".to_owned(),
    ] {
        gateway.xds().get(&unknown).send().unwrap().expect_status(404).unwrap();
    }
}
