//! TLS on both sides of a real Envoy: who is believed, and what is shown to whom.

use rustls::version::TLS12;
use tollgate_tests::{
    envoy, ports,
    runtime::runtime,
    tls::{Authority, Client},
    upstream::Upstream,
};

use crate::upstreams::{header_seen, seen};
use gateway::{Parts, TlsGateway, route};

mod gateway;
mod handshakes;
mod rotation;

#[test]
fn an_upstream_is_believed_by_its_authority_and_its_name() {
    let (inside, stranger) = (Authority::new("inside").unwrap(), Authority::new("stranger").unwrap());
    let issued = inside.issue(&["api.internal", "spiffe://example.org/api", "127.0.0.1"]).unwrap();
    let upstream = Upstream::start_tls("secure", issued.server(&inside).unwrap()).unwrap();
    let clusters = [
        ("verified", "ca: inside, sni: api.internal, certificate: edge", 200),
        ("by-uri", "ca: inside, subject_alt_names: ['spiffe://example.org/api'], certificate: edge", 200),
        ("by-address", "ca: inside, subject_alt_names: [127.0.0.1], certificate: edge", 200),
        ("not-verified", "verify: false, certificate: edge", 200),
        ("other-authority", "ca: stranger, sni: api.internal, certificate: edge", 503),
        ("other-name", "ca: inside, sni: web.internal, certificate: edge", 503),
        ("other-uri", "ca: inside, subject_alt_names: ['spiffe://example.org/web'], certificate: edge", 503),
        ("nothing-shown", "ca: inside, sni: api.internal", 503),
    ];
    let gateway = TlsGateway::start(
        "tls-upstream",
        &Parts {
            certificates: &[("edge", &inside.issue(&["edge.internal"]).unwrap())],
            trusted_cas: &[("inside", &inside), ("stranger", &stranger)],
            routes: &clusters.map(|(name, ..)| route(name)),
            clusters: &clusters.map(|(name, tls, _)| {
                format!("{name}: {{ endpoints: [\"{}\"], tls: {{ {tls} }} }}", upstream.address())
            }),
            ..Parts::default()
        },
    );
    let client = gateway.client("public.example");
    for (name, _, status) in clusters {
        let reply = client.get(&format!("/{name}"), &[]).unwrap();
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        if status == 200 {
            assert_eq!(header_seen(&reply, "x-forwarded-proto"), ["https"], "{name}");
        }
    }
}

#[test]
fn an_upstream_that_speaks_http2_is_spoken_to_so() {
    let port = ports::free().unwrap();
    let gateway = TlsGateway::start(
        "tls-http2",
        &Parts {
            listeners: &[("inner", port, "certificates: [public]")],
            routes: &[
                "{ match: { path: { exact: /inner } }, to: inner, rewrite: { prefix: /seen } }".to_owned()
            ],
            clusters: &[format!(
                "inner: {{ endpoints: [127.0.0.1:{port}], protocol: http2, tls: {{ ca: edge, sni: public.example }} }}"
            )],
            ..Parts::default()
        },
    );
    let reply = gateway.client("public.example").get("/inner", &[]).unwrap().expect_status(200).unwrap();
    assert_eq!(seen(&reply, "path"), "/seen");
    let connections =
        envoy::stat(gateway.gateway.ports().edge_admin, "cluster.inner.upstream_cx_http2_total");
    assert_eq!(connections.unwrap(), Some(1));
}

#[test]
fn a_client_is_believed_by_its_authority_and_its_name() {
    let (clients, stranger) = (Authority::new("clients").unwrap(), Authority::new("stranger").unwrap());
    let (required, optional) = (ports::free().unwrap(), ports::free().unwrap());
    let names = "subject_alt_names: ['spiffe://example.org/a', a.example]";
    let gateway = TlsGateway::start(
        "tls-client",
        &Parts {
            trusted_cas: &[("clients", &clients)],
            listeners: &[
                (
                    "required",
                    required,
                    &format!("certificates: [public], client_certificate: {{ ca: clients, {names} }}"),
                ),
                (
                    "optional",
                    optional,
                    "certificates: [public], client_certificate: { ca: clients, required: false }",
                ),
            ],
            ..Parts::default()
        },
    );
    let on = |port| Client::new(port, "public.example", &gateway.authority).unwrap();
    let spoofed = [("x-forwarded-client-cert", "URI=spiffe://example.org/root")];
    let shown = |names: &[&str], authority: &Authority| authority.issue(names).unwrap();

    let a = shown(&["spiffe://example.org/a"], &clients);
    let reply = on(required).showing(&a).get("/", &spoofed).unwrap();
    let told = header_seen(&reply, "x-forwarded-client-cert").join("|");
    assert!(told.contains("URI=spiffe://example.org/a") && !told.contains("root"), "{told}");
    assert_eq!(on(required).showing(&shown(&["a.example"], &clients)).get("/", &[]).unwrap().status, 200);

    for (who, client) in [
        ("nothing shown", on(required)),
        ("another name", on(required).showing(&shown(&["spiffe://example.org/b"], &clients))),
        ("another authority", on(required).showing(&shown(&["a.example"], &stranger))),
        ("another authority where none is needed", on(optional).showing(&shown(&["a.example"], &stranger))),
    ] {
        let answer = client.get("/", &[]);
        assert!(answer.is_err(), "{who} was taken: {answer:?}");
    }

    let reply = on(optional).get("/", &spoofed).unwrap();
    assert_eq!((reply.status, header_seen(&reply, "x-forwarded-client-cert")), (200, vec![]));
    assert_eq!(on(optional).showing(&a).get("/", &[]).unwrap().status, 200);
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let gateway = TlsGateway::start("tls-sni", &Parts::default());
    // An address is no server name: nothing is asked for.
    for (asked, shown) in
        [("public.example", "public.pem"), ("other.example", "other.pem"), ("127.0.0.1", "public.pem")]
    {
        let connected = runtime().block_on(gateway.client(asked).connect()).unwrap();
        assert_eq!(connected.certificate, gateway.certificate(shown), "{asked}");
    }
}

#[test]
fn protocol_and_version_are_agreed_on() {
    let strict = ports::free().unwrap();
    let gateway = TlsGateway::start(
        "tls-versions",
        &Parts {
            listeners: &[("strict", strict, "certificates: [public], min_version: TLSv1_3")],
            ..Parts::default()
        },
    );
    let agreed = |offered: &[&str]| {
        let client = gateway.client("public.example").offering(offered);
        runtime().block_on(client.connect()).unwrap().protocol
    };
    assert_eq!(agreed(&["http/1.1", "h2"]).as_deref(), Some("h2"));
    assert_eq!(agreed(&["http/1.1"]).as_deref(), Some("http/1.1"));

    assert_eq!(gateway.client("public.example").version(&TLS12).get("/", &[]).unwrap().status, 200);
    let strict = Client::new(strict, "public.example", &gateway.authority).unwrap();
    assert_eq!(strict.get("/", &[]).unwrap().status, 200);
    assert!(strict.version(&TLS12).get("/", &[]).is_err());
}
