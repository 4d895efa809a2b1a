//! Certificates that are replaced while they are used: no handshake fails, and no connection ends.

use std::{fs, os::unix::fs::symlink};

use tollgate_tests::{
    gateway::{EFFECT_DEADLINE, replace},
    load::Load,
    runtime::runtime,
    tls::{Authority, Issued},
    upstream::Upstream,
    wait::{holds, wait_until},
};

use super::gateway::{Parts, TlsGateway, write_pair};
use super::handshakes::Handshakes;

const ROTATIONS: usize = 24;

impl TlsGateway {
    fn issue(&self) -> Issued {
        self.authority.issue(&["public.example"]).unwrap()
    }

    /// The warnings that xds-server shows.
    fn warnings(&self) -> Vec<String> {
        let status = self.gateway.status().unwrap();
        let warnings = status["config"]["warnings"].as_array().unwrap();
        warnings.iter().map(|warning| warning["message"].as_str().unwrap().to_owned()).collect()
    }

    fn wait_for_warning(&self, expected: &str) {
        wait_until(&format!("the warning “{expected}”"), EFFECT_DEADLINE, || {
            holds(self.warnings().iter().any(|warning| warning.contains(expected)))
        })
        .unwrap();
    }

    fn wait_until_shown(&self, pair: &Issued) {
        let client = self.client("public.example");
        let certificate = pair.certificate().unwrap();
        wait_until("the certificate to be shown", EFFECT_DEADLINE, || {
            holds(runtime().block_on(client.connect())?.certificate == certificate)
        })
        .unwrap();
    }
}

#[test]
fn certificates_rotate_under_load_and_no_handshake_fails() {
    let gateway = TlsGateway::start("tls-rotation", &Parts::default());
    let client = gateway.client("public.example");
    let mut open = runtime().block_on(client.connect()).unwrap();
    let load = Handshakes::start(&client, "/", 4);
    load.wait_for(&gateway.certificate("public.pem"));
    let mut pairs = Vec::new();
    for number in 0..ROTATIONS {
        let pair = gateway.issue();
        if number.is_multiple_of(2) {
            write_pair(gateway.folder(), "public", &pair);
        } else {
            replace(&gateway.file("public.key"), &pair.key).unwrap();
            replace(&gateway.file("public.pem"), &pair.chain).unwrap();
        }
        load.wait_for(&pair.certificate().unwrap());
        // A connection that was there before lives through every rotation.
        assert_eq!(runtime().block_on(open.get("/", &[])).unwrap().status, 200, "rotation {number}");
        pairs.push(pair);
    }
    let account = load.stop();
    eprintln!("{} handshakes", account.shown.values().sum::<u64>());
    assert!(account.failures.is_empty(), "{:?}", account.failures);
    assert_eq!(account.shown.len(), ROTATIONS + 1, "the first certificate and every later one was shown");

    // Nobody can read the keys where people look.
    let status = gateway.gateway.status().unwrap().to_string() + &gateway.gateway.report();
    for secret in pairs.iter().filter_map(|pair| pair.key.lines().nth(1)) {
        assert!(!status.contains(secret), "a private key is shown");
    }
}

#[test]
fn half_a_rotation_breaks_nothing_and_is_told() {
    let gateway = TlsGateway::start("tls-half", &Parts::default());
    let old = gateway.certificate("public.pem");
    let load = Handshakes::start(&gateway.client("public.example"), "/", 2);
    load.wait_for(&old);
    let new = gateway.issue();
    replace(&gateway.file("public.pem"), &new.chain).unwrap();
    gateway.wait_for_warning("public.key is not the key of the certificate in public.pem");
    // Other edits go on meanwhile.
    let added = |text: String| {
        text.replacen(
            "routes: [",
            "routes: [{ match: { path: { exact: /added } }, respond: { status: 204 } }, ",
            1,
        )
    };
    gateway.gateway.edit(added).unwrap();
    wait_until("the edited route", EFFECT_DEADLINE, || {
        gateway.client("public.example").get("/added", &[])?.expect_status(204)
    })
    .unwrap();
    fs::write(gateway.file("public.pem"), "not a certificate").unwrap();
    gateway.wait_for_warning("public.pem: there is no certificate in the file");

    write_pair(gateway.folder(), "public", &new);
    load.wait_for(&new.certificate().unwrap());
    wait_until("the warnings to be gone", EFFECT_DEADLINE, || holds(gateway.warnings().is_empty())).unwrap();
    let account = load.stop();
    assert!(account.failures.is_empty(), "{:?}", account.failures);
    assert_eq!(account.shown.len(), 2);
}

#[test]
fn certificates_rotate_while_the_yaml_is_wrong() {
    let gateway = TlsGateway::start("tls-wrong-yaml", &Parts::default());
    let mark = gateway.gateway.xds_log_end().unwrap();
    gateway.gateway.edit(|text| text.replace("to: a", "to: nowhere")).unwrap();
    gateway.gateway.wait_for_entry("configuration rejected", mark).unwrap();
    let new = gateway.issue();
    write_pair(gateway.folder(), "public", &new);
    gateway.wait_until_shown(&new);
    assert_eq!(gateway.client("public.example").get("/", &[]).unwrap().status, 200);
}

#[test]
fn a_mounted_secret_is_swapped_at_once() {
    // `public.pem -> ..data/public.pem`, `..data -> ..1`: what a mounted secret looks like.
    let gateway = TlsGateway::start("tls-mounted", &Parts::default());
    let folder = gateway.folder();
    let publish = |version: &str, pair: &Issued| {
        let versioned = folder.join(version);
        fs::create_dir(&versioned).unwrap();
        write_pair(&versioned, "public", pair);
        symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    let first = gateway.issue();
    publish("..1", &first);
    for file in ["public.pem", "public.key"] {
        symlink(format!("..data/{file}"), folder.join("link_tmp")).unwrap();
        fs::rename(folder.join("link_tmp"), folder.join(file)).unwrap();
    }
    gateway.wait_until_shown(&first);
    for version in ["..2", "..3"] {
        let pair = gateway.issue();
        publish(version, &pair);
        gateway.wait_until_shown(&pair);
    }
}

#[test]
fn no_request_fails_while_routes_move_to_other_tls_upstreams() {
    let inside = Authority::new("inside").unwrap();
    let upstream = inside.issue(&["api.internal"]).unwrap();
    let upstream = Upstream::start_tls("secure", upstream.server(&inside).unwrap()).unwrap();
    // A new cluster every time, which refers to a certificate and an authority that no cluster had before.
    let gateway = TlsGateway::start("tls-moving", &Parts::default());
    let plain = gateway.gateway.ports().edge;
    let edited = |number: usize| {
        format!(
            "version: v1\nproxies: {{ edge: {{ listeners: [plain] }} }}\n\
             certificates: {{ client-{number}: {{ chain: client.pem, key: client.key }} }}\n\
             trusted_cas: {{ inside-{number}: {{ file: inside.pem }} }}\n\
             listeners:\n  plain:\n    address: 127.0.0.1:{plain}\n    virtual_hosts:\n      - name: test\n        \
             hosts: [\"*\"]\n        routes:\n          - {{ match: {{ path: {{ exact: /edit-{number} }} }}, \
             respond: {{ status: 200 }} }}\n          - {{ match: {{ path: {{ prefix: / }} }}, to: c-{number} }}\n\
             clusters:\n  c-{number}: {{ endpoints: [\"{}\"], tls: {{ ca: inside-{number}, sni: api.internal, \
             certificate: client-{number} }} }}\n",
            upstream.address()
        )
    };
    write_pair(gateway.folder(), "client", &inside.issue(&["edge.internal"]).unwrap());
    fs::write(gateway.file("inside.pem"), inside.pem()).unwrap();
    gateway.gateway.edit(|_| edited(0)).unwrap();
    gateway.gateway.wait_for_status("/steady", 200).unwrap();
    let load = Load::on(plain).get("/steady", &[]).connections(4).rate(200.0).start();
    for number in 1..=15 {
        gateway.gateway.edit(|_| edited(number)).unwrap();
        gateway.gateway.wait_for_status(&format!("/edit-{number}"), 200).unwrap();
    }
    load.wait_for(100).unwrap();
    let report = load.stop().unwrap();
    assert_eq!(report.failures(), 0, "{report}");
}
