//! The connections between real Envoys and xds-server: who is let in, what is replaced under them, and when they end.

use std::fs;

use tollgate_tests::{
    envoy,
    gateway::Gateway,
    load::Load,
    ports::{self, Ports},
    process::Process,
    render,
    secure_xds::SecureXds,
    stack::{Stack, read},
};

use crate::yaml::{self, Edge};

const ROTATIONS: usize = 4;

/// Routes `/steady`, and `/edit-N` once this is the edit with that number; the group is for that identity.
fn text(ports: &Ports, edit: usize, identity: Option<&str>) -> String {
    let edited = format!("{{ match: {{ path: {{ exact: /edit-{edit} }} }}, respond: {{ status: 200 }} }}");
    let edge = Edge::with_routes([edited.as_str(), &yaml::prefix("/", "a")]).text(ports);
    match identity {
        None => edge,
        Some(identity) => edge.replace(
            "edge: { listeners: [public] }",
            &format!(
                "edge: {{ listeners: [public], identities: ['{identity}'] }}, \
                 sidecar: {{ listeners: [], identities: ['spiffe://example.org/sidecar/*'] }}"
            ),
        ),
    }
}

struct Secured {
    gateway: Gateway,
    secure: SecureXds,
    stack: Stack,
}

impl Secured {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut set_up = None;
        let change = |stack: &mut Stack| {
            stack.xds_arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
            let secure = SecureXds::set_up(stack, "spiffe://example.org/edge/0")?;
            set_up = Some((secure, stack.clone()));
            Ok(())
        };
        let yaml = |ports: &Ports| text(ports, 0, Some("spiffe://example.org/edge/*"));
        let gateway = Gateway::edge_only_on(name, change, yaml).unwrap();
        let (secure, stack) = set_up.unwrap();
        Self { gateway, secure, stack }
    }
}

/// Sum of a counter of xds-server over its labels.
fn counter(gateway: &Gateway, name: &str) -> f64 {
    let text = gateway.xds().get("/metrics").send().unwrap().expect_status(200).unwrap().text();
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn an_envoy_gets_the_group_of_its_certificate_and_nothing_by_lying() {
    let secured = Secured::start("mtls-groups", &[]);
    let gateway = &secured.gateway;
    gateway.wait_for_status("/edit-0", 200).unwrap();

    // It has the certificate of a sidecar, and says that it is an edge.
    let stack = &secured.stack;
    let ports = Ports { edge_admin: ports::free().unwrap(), edge: ports::free().unwrap(), ..stack.ports };
    let folder = secured.secure.folder_for(stack, "liar", "spiffe://example.org/sidecar/mallory").unwrap();
    let original = read(&stack.toolbox.envoy_config("edge.yaml")).unwrap();
    let bootstrap = stack.folder.join("liar.yaml");
    let rendered = render::bootstrap(&render::secured(&original, &folder).unwrap(), &ports).unwrap();
    fs::write(&bootstrap, rendered).unwrap();
    let mark = gateway.xds_log_end().unwrap();
    let mut command = envoy::serve(&stack.toolbox, &bootstrap, 1).unwrap();
    command.args(["--service-node", "liar"]);
    let liar = Process::start("liar", command, stack.folder.join("liar.log")).unwrap();
    let entry = gateway.wait_for_entry("proxy refused", mark).unwrap();
    assert_eq!(entry.field("node").as_deref(), Some("liar"));
    let reason = entry.field("reason").unwrap();
    assert_eq!(
        reason,
        "group `edge` does not have spiffe://example.org/sidecar/mallory among its `identities`"
    );
    // It tries again and again, for resources and for load reports, and gets nothing.
    let mark = gateway.xds_log_end().unwrap();
    gateway.wait_for_entry("proxy refused", mark).unwrap();
    for stat in ["cluster_manager.cds.update_success", "listener_manager.lds.update_success"] {
        assert_eq!(envoy::stat(ports.edge_admin, stat).unwrap().unwrap_or(0), 0, "{stat}");
    }
    assert!(envoy::ready(ports.edge_admin).is_err());
    let status = gateway.status().unwrap();
    let proxies = status["proxies"].as_array().unwrap();
    assert!(proxies.iter().all(|proxy| proxy["id"] == "edge-1"), "{status}");
    assert_eq!(status["port"]["tls"], "mutual");
    drop(liar);
}

#[test]
fn certificates_of_both_sides_rotate_without_a_restart_or_a_failed_request() {
    let secured = Secured::start("mtls-rotation", &["--max-connection-age", "1s"]);
    let (gateway, ports) = (&secured.gateway, &secured.stack.ports);
    gateway.wait_for_status("/edit-0", 200).unwrap();
    let load = Load::on(ports.edge).get("/steady", &[]).connections(2).rate(100.0).start();
    let folder = secured.stack.xds_tls.as_ref().unwrap();
    for number in 1..=ROTATIONS {
        let identity = format!("spiffe://example.org/edge/{number}");
        secured.secure.replace_server().unwrap();
        secured.secure.replace_proxy(folder, &identity).unwrap();
        // Only the new certificate gets this.
        gateway.edit(|_| text(ports, number, Some(&identity))).unwrap();
        gateway.wait_for_status(&format!("/edit-{number}"), 200).unwrap();
    }
    load.wait_for(100).unwrap();
    let report = load.stop().unwrap();
    assert_eq!(report.failures(), 0, "{report}");
    let rejected = envoy::stat(ports.edge_admin, "listener_manager.lds.update_rejected").unwrap();
    assert_eq!(rejected, Some(0));
}

#[test]
fn at_its_age_a_connection_ends_and_its_envoy_is_back_and_is_sent_nothing() {
    const ENDS: usize = 7;
    let change = |stack: &mut Stack| {
        stack.xds_arguments.extend(["--max-connection-age", "1s"].map(str::to_owned));
        Ok(())
    };
    let gateway = Gateway::edge_only_on("aged", change, |ports| text(ports, 0, None)).unwrap();
    gateway.wait_for_status("/edit-0", 200).unwrap();
    let has_all = |group: &serde_json::Value| group["stage"] == "settled" && group["arrived"] == 1;
    gateway.wait_for_group("all of it arrived", has_all).unwrap();
    let load = Load::on(gateway.ports().edge).get("/steady", &[]).connections(2).rate(100.0).start();
    let pushes = counter(&gateway, "tollgate_xds_pushes_total");
    let mut mark = gateway.xds_log_end().unwrap();
    let mut away = Vec::new();
    for _ in 0..ENDS {
        let ended = gateway.wait_for_entry("disconnected", mark).unwrap();
        let back = gateway.wait_for_entry("connected", mark).unwrap();
        away.push(seconds(&back.field("timestamp").unwrap()) - seconds(&ended.field("timestamp").unwrap()));
        mark = gateway.xds_log_end().unwrap();
    }
    gateway.wait_for_group("all of it there", has_all).unwrap();
    assert_eq!(counter(&gateway, "tollgate_xds_pushes_total"), pushes, "something was sent again");
    eprintln!("away for {away:.3?} s");
    // The bootstrap has 5 s; without it, Envoy waits for up to 30 s.
    assert!(away.iter().all(|seconds| *seconds < 6.5), "{away:?}");

    gateway.edit(|_| text(gateway.ports(), 1, None)).unwrap();
    gateway.wait_for_status("/edit-1", 200).unwrap();
    let report = load.stop().unwrap();
    assert_eq!(report.failures(), 0, "{report}");
}

/// Of the day, from `2026-01-31T12:34:56.789Z`.
fn seconds(timestamp: &str) -> f64 {
    let time = timestamp.trim_end_matches('Z').split('T').nth(1).unwrap();
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}
