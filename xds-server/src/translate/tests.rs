//! Golden files: each `golden/NAME.yaml` becomes exactly `golden/NAME.txt`. After a wanted change, write them
//! anew with `UPDATE_GOLDEN=1 cargo test -p xds-server golden`, and read the difference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{TransportSocket, TypedExtensionConfig, transport_socket};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::http::dynamic_modules::v3::DynamicModuleFilter;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, Secret, UpstreamTlsContext,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::service::runtime::v3::Runtime;
use envoy_types::pb::google::protobuf::StringValue;
use prost::Name as _;
use serde_json::json;

use super::*;
use crate::gateway::pem::{CaBundle, KeyPair};
use crate::gateway::{ReferencedFiles, SourceFile, load};
use crate::source::module::Current;

fn gateway(text: &str) -> Gateway {
    let files = vec![SourceFile { path: "gateway.yaml".into(), text: text.into() }];
    load(files).unwrap_or_else(|report| panic!("{report}")).gateway
}

/// Made once: what it says is the same in every test.
fn key_pair() -> &'static (String, String) {
    static PAIR: OnceLock<(String, String)> = OnceLock::new();
    PAIR.get_or_init(|| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    })
}

fn key_sets(gateways: &[&Gateway]) -> KeySets {
    let (chain, key) = key_pair();
    let pair = Arc::new(KeyPair::parse(chain, key).unwrap());
    let bundle = Arc::new(CaBundle::parse(chain).unwrap());
    let set = |kid: &str| Arc::new(json!({"keys": [{"kty": "oct", "k": "AA", "kid": kid}]}));
    KeySets {
        files: ReferencedFiles {
            jwks: BTreeMap::from([("keys.json".into(), set("from-file"))]),
            key_pairs: gateways
                .iter()
                .flat_map(|gateway| gateway.certificates.values())
                .map(|certificate| (certificate.clone(), Arc::clone(&pair)))
                .collect(),
            ca_bundles: gateways
                .iter()
                .flat_map(|gateway| gateway.trusted_cas.values())
                .map(|ca| (ca.clone(), Arc::clone(&bundle)))
                .collect(),
        },
        urls: BTreeMap::from([("http://issuer.example/jwks".into(), set("from-url"))]),
    }
}

fn translate_all(serving: &Gateway, present: &[&Gateway]) -> Vec<Resource> {
    translate_with(&Modules::Folder("/wasm".into()), serving, present)
}

fn translate_with(modules: &Modules, serving: &Gateway, present: &[&Gateway]) -> Vec<Resource> {
    translate("edge", Target { serving, present, keys: &key_sets(present), modules, quota: &quota() })
}

fn quota() -> QuotaService {
    QuotaService {
        address: "127.0.0.1:18002".parse().unwrap(),
        timeout: std::time::Duration::from_millis(500),
    }
}

fn modules(gateway: u8) -> Modules {
    let sha256 = [("gateway".to_owned(), format!("{gateway:064x}"))];
    let current = Current { sha256: sha256.into(), refresh: 7 };
    Modules::Http { origin: "127.0.0.1:18001".parse().unwrap(), current }
}

/// The message's debug form without its many default fields.
fn compact(message: &impl std::fmt::Debug) -> String {
    const DEFAULTS: [&str; 7] = [": None,", ": [],", ": {},", ": \"\",", ": 0,", ": false,", ": 0.0,"];
    let text = format!("{message:#?}");
    text.lines()
        .filter(|line| !DEFAULTS.iter().any(|end| line.ends_with(end)))
        .fold(String::new(), |text, line| text + line + "\n")
}

/// What a transport socket says of TLS.
fn tls_context<M: Message + Default + std::fmt::Debug>(
    socket: &mut Option<TransportSocket>,
) -> Option<String> {
    let transport_socket::ConfigType::TypedConfig(context) = socket.as_mut()?.config_type.take()?;
    Some(compact(&M::decode(context.value.as_slice()).expect("a TLS context")))
}

/// A resource in full, with what is packed inside it.
fn render(resource: &Resource) -> String {
    fn decode<M: Message + Default>(bytes: &[u8]) -> M {
        M::decode(bytes).expect("translate encodes what it says")
    }
    let body = resource.body.as_slice();
    let ttl = resource.ttl.map(|ttl| format!(" for {ttl:?}")).unwrap_or_default();
    let mut text = format!("=== {} {}{ttl}\n", resource.type_url.rsplit('.').next().unwrap(), resource.name);
    let parts = if resource.type_url == Listener::type_url() {
        let mut listener: Listener = decode(body);
        let (manager, tls) = match listener.filter_chains.first_mut() {
            Some(chain) => {
                let manager = chain.filters[0].config_type.take();
                let Some(filter::ConfigType::TypedConfig(manager)) = manager else { panic!("no manager") };
                (manager, tls_context::<DownstreamTlsContext>(&mut chain.transport_socket))
            }
            None => (listener.api_listener.as_mut().unwrap().api_listener.take().unwrap(), None),
        };
        let manager = compact(&decode::<HttpConnectionManager>(&manager.value));
        [compact(&listener)].into_iter().chain(tls).chain([manager]).collect()
    } else if resource.type_url == Cluster::type_url() {
        let mut cluster: Cluster = decode(body);
        let options = std::mem::take(&mut cluster.typed_extension_protocol_options);
        let mut options: HttpProtocolOptions = decode(&options.values().next().expect("HTTP options").value);
        let filters = std::mem::take(&mut options.http_filters).into_iter().filter_map(|filter| {
            let Some(ConfigType::TypedConfig(any)) = filter.config_type else { return None };
            (any.type_url == Wasm::type_url()).then(|| compact(&decode::<Wasm>(&any.value)))
        });
        let tls = tls_context::<UpstreamTlsContext>(&mut cluster.transport_socket);
        [compact(&cluster)].into_iter().chain(tls).chain([compact(&options)]).chain(filters).collect()
    } else if resource.type_url == TypedExtensionConfig::type_url() {
        let extension: TypedExtensionConfig = decode(body);
        let filter = extension.typed_config.expect("a filter");
        let (filter, configuration) = if filter.type_url == DynamicModuleFilter::type_url() {
            let mut native: DynamicModuleFilter = decode(&filter.value);
            let configuration = native.filter_config.take();
            (compact(&native), configuration)
        } else {
            assert_eq!(filter.type_url, Wasm::type_url());
            let mut wasm: Wasm = decode(&filter.value);
            let configuration = wasm.config.as_mut().and_then(|plugin| plugin.configuration.take());
            (compact(&wasm), configuration)
        };
        let configuration: StringValue = decode(&configuration.expect("JSON").value);
        let json: serde_json::Value = serde_json::from_str(&configuration.value).expect("JSON");
        vec![filter, format!("{json:#}\n")]
    } else if resource.type_url == RouteConfiguration::type_url() {
        vec![compact(&decode::<RouteConfiguration>(body))]
    } else if resource.type_url == VirtualHost::type_url() {
        vec![compact(&decode::<VirtualHost>(body))]
    } else if resource.type_url == Runtime::type_url() {
        vec![compact(&decode::<runtime::Layer>(body))]
    } else if resource.type_url == Secret::type_url() {
        let (chain, key) = key_pair();
        let secret = compact(&decode::<Secret>(body));
        let hide = |text: String, pem: &str, by: &str| text.replace(&format!("{pem:?}"), by);
        vec![hide(hide(secret, chain, "CHAIN"), key, "KEY")]
    } else {
        assert_eq!(resource.type_url, ClusterLoadAssignment::type_url());
        vec![compact(&decode::<ClusterLoadAssignment>(body))]
    };
    for part in parts {
        let _ = writeln!(text, "{part}");
    }
    text
}

#[test]
fn golden_files_are_reproduced() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/translate/golden");
    let mut inputs: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 5, "the golden files are gone");
    for input in inputs {
        let gateway = gateway(&std::fs::read_to_string(&input).unwrap());
        let modules = match ["modules.yaml", "native.yaml"].iter().any(|name| input.ends_with(name)) {
            true => modules(1),
            false => Modules::Folder("/wasm".into()),
        };
        let found: String = translate_with(&modules, &gateway, &[&gateway]).iter().map(render).collect();
        let output = input.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&output, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&output).unwrap_or_default();
        let differs = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
        assert!(
            found == expected,
            "{} differs at line {}; see UPDATE_GOLDEN above",
            output.display(),
            differs.unwrap_or_else(|| found.lines().count().min(expected.lines().count())) + 1
        );
    }
}

#[test]
fn equal_gateways_encode_to_equal_bytes() {
    let text = include_str!("../../../envoy-configs/gateway.yaml");
    let first = translate_all(&gateway(text), &[&gateway(text)]);
    // Hash maps are seeded per map: a map of two entries would come out both ways within a few rounds.
    for _ in 0..32 {
        assert_eq!(translate_all(&gateway(text), &[&gateway(text)]), first);
    }
}

#[test]
fn an_edit_touches_only_what_it_changes() {
    let text = include_str!("../../../envoy-configs/gateway.yaml");
    let (old, new) = (gateway(text), gateway(&text.replace("timeout: 5s", "timeout: 6s")));
    let (before, after) = (translate_all(&old, &[&old]), translate_all(&new, &[&new]));
    let changed: Vec<_> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(before, _)| (before.type_url.as_str(), before.name.as_str()))
        .collect();
    assert_eq!(changed, [(RouteConfiguration::type_url().as_str(), "public")]);
}

#[test]
fn a_changed_module_changes_its_filters_and_what_brings_it_and_nothing_else() {
    let gateway = gateway(include_str!("../../../envoy-configs/gateway.yaml"));
    let keys = KeySets::default();
    let of = |gateway_module| {
        let modules = modules(gateway_module);
        let target = Target {
            serving: &gateway,
            present: &[&gateway],
            keys: &keys,
            modules: &modules,
            quota: &quota(),
        };
        translate("sidecar", target).into_iter().map(|resource| (resource.name, resource.body)).collect()
    };
    let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) = (of(1), of(9));
    let changed: Vec<&str> = after
        .iter()
        .filter(|(name, body)| before.get(*name) != Some(body))
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(
        changed,
        ["inbound/gateway", "outbound/gateway", &format!("tollgate/wasm/gateway/{:064x}", 9)]
    );
}

#[test]
fn filters_are_switched_by_their_own_resource_alone() {
    let text = include_str!("../../../envoy-configs/gateway.yaml");
    let switched = text.replacen("  public:\n", "  public:\n    filters: native\n", 1);
    let (wasm, native) = (gateway(text), gateway(&switched));
    let of = |serving, present: &[&Gateway]| translate_with(&modules(1), serving, present);
    let both = [&wasm, &native];
    let (before, after) = (of(&wasm, &both), of(&native, &both));
    assert_eq!(before.len(), after.len());
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    let names: Vec<_> = changed.iter().map(|(_, after)| (&*after.type_url, &*after.name)).collect();
    assert_eq!(names, [(&*TypedExtensionConfig::type_url(), "public/gateway")]);
    let configuration = |resource: &Resource| render(resource).split_once("\n\n").unwrap().1.to_owned();
    assert_eq!(configuration(changed[0].0), configuration(changed[0].1));

    // What brings the module is there before it is needed, and for as long.
    let brings = |resources: &[Resource]| {
        resources.iter().any(|resource| resource.name.starts_with("tollgate/wasm/gateway/"))
    };
    assert_eq!(before, of(&wasm, &[&wasm]));
    assert!(brings(&before) && !brings(&of(&native, &[&native])));
}

#[test]
fn what_either_gateway_refers_to_is_present_between_them() {
    let text = |cluster: &str, policy: &str| {
        format!(
            "version: v1\nproxies: {{edge: {{listeners: [l]}}}}\nclusters: {{{cluster}: {{endpoints: ['127.0.0.1:1']}}}}\n\
             policies: {{rate_limit: {{{policy}: {{limit: 1/s}}}}}}\n\
             listeners: {{l: {{address: '127.0.0.1:80', policies: {{rate_limit: {policy}}}, virtual_hosts: \
             [{{name: h, hosts: ['*'], routes: [{{match: {{path: {{prefix: /}}}}, to: {cluster}}}]}}]}}}}\n"
        )
    };
    let (old, new) = (gateway(&text("blue", "slow")), gateway(&text("green", "fast")));
    let resources = translate_all(&new, &[&old, &new]);
    let clusters: Vec<_> =
        resources.iter().filter(|r| r.type_url == Cluster::type_url()).map(|r| r.name.as_str()).collect();
    assert_eq!(clusters, ["blue", "green"]);
    let of_type = |type_url: String| -> String {
        resources.iter().filter(|resource| resource.type_url == type_url).map(render).collect()
    };
    let filters = of_type(TypedExtensionConfig::type_url());
    assert!(filters.contains("\"slow\"") && filters.contains("\"fast\""), "{filters}");
    let routes = of_type(RouteConfiguration::type_url());
    assert!(routes.contains("\"green\"") && !routes.contains("\"blue\""), "{routes}");
}

#[test]
fn filters_know_what_old_and_new_routes_require_while_routes_move() {
    let text = |scope: &str| {
        format!(
            "version: v1\nproxies: {{edge: {{listeners: [l]}}}}\n\
             policies: {{auth: {{a: {{any_of: [{{jwt: {{issuer: i, jwks: {{inline: {{keys: []}}}}}}}}]}}}}}}\n\
             listeners: {{l: {{address: '127.0.0.1:80', policies: {{auth: a, required_scopes: [{scope}]}}, virtual_hosts: \
             [{{name: h, hosts: ['*'], routes: [{{match: {{path: {{prefix: /}}}}, respond: {{status: 204}}}}]}}]}}}}\n"
        )
    };
    let (old, new) = (gateway(&text("read")), gateway(&text("write")));
    let of_type = |serving, present: &[&Gateway], type_url: String| -> String {
        let resources = translate_all(serving, present);
        resources.iter().filter(|resource| resource.type_url == type_url).map(render).collect()
    };
    let routes = |serving, present: &[&Gateway]| of_type(serving, present, RouteConfiguration::type_url());
    let filters = |serving, present: &[&Gateway]| of_type(serving, present, TypedExtensionConfig::type_url());
    // Before the routes move and until they have, both are known, so that neither is unknown nor left out.
    for serving in [&old, &new] {
        let filters = filters(serving, &[&old, &new]);
        assert!(filters.contains("read") && filters.contains("write"), "{filters}");
    }
    let names = [&old, &new].map(|gateway| {
        let (name, _) =
            requirement::requirement(&route_policies(&gateway.listeners["l"]).next().unwrap()).unwrap();
        name
    });
    assert_ne!(names[0], names[1]);
    for (gateway, name) in [&old, &new].into_iter().zip(&names) {
        assert!(filters(gateway, &[gateway]).contains(name));
        assert!(routes(gateway, &[gateway]).contains(&format!("auth=a/{name}")));
    }
}

/// Two groups with a listener each, and a certificate and a client certificate of their own.
const GROUPS: &str = "
version: v1
proxies: {edge: {listeners: [public]}, inner: {listeners: [inside]}}
certificates: {public: {chain: a, key: b}, inside: {chain: c, key: d}, client: {chain: e, key: f}}
trusted_cas: {backends: {file: g}}
listeners:
  public: {address: '127.0.0.1:1', tls: {certificates: [public]}, virtual_hosts: []}
  inside:
    address: 127.0.0.1:2
    tls: {certificates: [inside]}
    virtual_hosts: [{name: h, hosts: ['*'], routes: [{match: {path: {prefix: /}}, to: c}]}]
clusters: {c: {endpoints: ['127.0.0.1:3'], tls: {ca: backends, sni: c, certificate: client}}}
";

/// Names of a group's secrets.
fn secrets_of(group: &str, serving: &Gateway, present: &[&Gateway]) -> Vec<String> {
    let (keys, modules) = (key_sets(present), Modules::Folder("/wasm".into()));
    translate(group, Target { serving, present, keys: &keys, modules: &modules, quota: &quota() })
        .into_iter()
        .filter(|resource| resource.type_url == Secret::type_url())
        .map(|resource| resource.name)
        .collect()
}

#[test]
fn a_group_gets_the_secrets_that_it_refers_to_and_no_other_s() {
    let gateway = gateway(GROUPS);
    assert_eq!(secrets_of("edge", &gateway, &[&gateway]), ["certificate/public"]);
    assert_eq!(
        secrets_of("inner", &gateway, &[&gateway]),
        ["certificate/client", "certificate/inside", "trusted_ca/backends"]
    );
}

#[test]
fn secrets_outlive_the_listeners_that_refer_to_them() {
    let (old, new) = (gateway(GROUPS), gateway(&GROUPS.replace("[public]}, virtual", "[client]}, virtual")));
    assert_eq!(secrets_of("edge", &new, &[&old, &new]), ["certificate/client", "certificate/public"]);
    assert_eq!(secrets_of("edge", &new, &[&new]), ["certificate/client"]);
}

#[test]
fn a_rotation_changes_the_secret_alone() {
    let gateway = gateway(GROUPS);
    let (old, mut new) = (key_sets(&[&gateway]), key_sets(&[&gateway]));
    let key = rcgen::KeyPair::generate().unwrap();
    let chain = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let pair = Arc::new(KeyPair::parse(&chain, &key.serialize_pem()).unwrap());
    new.files.key_pairs.insert(gateway.certificates["public"].clone(), pair);
    let modules = Modules::Folder("/wasm".into());
    let all = |keys: &KeySets| {
        translate(
            "edge",
            Target { serving: &gateway, present: &[&gateway], keys, modules: &modules, quota: &quota() },
        )
    };
    let (before, after) = (all(&old), all(&new));
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert_eq!(before.len(), after.len());
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(changed[0].0.name, "certificate/public");
    assert!(!format!("{changed:?}").contains("PRIVATE"));
}

#[test]
fn a_group_that_is_not_named_gets_nothing() {
    let gateway = gateway(include_str!("../../../envoy-configs/gateway.yaml"));
    let keys = KeySets::default();
    let target = Target {
        serving: &gateway,
        present: &[&gateway],
        keys: &keys,
        modules: &modules(1),
        quota: &quota(),
    };
    assert_eq!(translate("stranger", target), []);
}
