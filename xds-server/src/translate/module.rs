//! How Envoys get the filters' code as Wasm: from a file of theirs, or over HTTP from xds-server.
//!
//! Over HTTP, two kinds of clusters come with the filters. `tollgate/wasm` leads to xds-server. `tollgate/wasm/NAME/SHA256`
//! has no endpoints; its upstream filter is the module, so that Envoy fetches the code while it warms the cluster, and
//! answers for clusters once it has done so. That answer is what filters wait for (`discovery::session`): by then the code
//! is in the process's cache, and the new configuration takes effect without a gap. Without it, Envoy (1.40) would run
//! *without the filter* from the moment its configuration names code that is still to be fetched; `nack_on_code_cache_miss`
//! makes it keep the old one in whatever case is left. `ARCHITECTURE.md` has what was measured.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as EnvoyCluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, BackoffStrategy, DataSource, HttpUri, Metadata, RemoteDataSource, RetryPolicy,
    async_data_source, data_source,
};
use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::wasm::v3::{FailurePolicy, PluginConfig, VmConfig, plugin_config};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{StringValue, Struct, Value};

use super::{any, cluster, endpoint, proto};
use crate::gateway::model::{Endpoint, Protocol};
use crate::gateway::scalar::{Address, Duration};
use crate::source::module::Current;

/// The cluster that leads to xds-server. No name in the YAML holds a slash, so none is ever like it.
const ORIGIN: &str = "tollgate/wasm";

const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);
const FETCH_TIMEOUT: Duration = Duration::from_millis(10_000);
/// An Envoy takes no other clusters while it tries to fetch a module, so it has to give up some time: after a few minutes.
const FETCH_RETRIES: u32 = 60;
const FETCH_BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(5_000)];

/// How Envoys get the filters' modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Modules {
    /// From a folder of theirs.
    Folder(String),
    /// Over HTTP.
    Http {
        /// Where Envoys reach this server.
        origin: Address,
        /// What there is to fetch.
        current: Current,
    },
}

/// The virtual machine that runs `module`; filters that share it share its code and its memory.
pub(super) fn vm(module: &str, modules: &Modules) -> VmConfig {
    let code = match modules {
        Modules::Folder(folder) => {
            let file = format!("{folder}/{module}.wasm");
            async_data_source::Specifier::Local(DataSource {
                specifier: Some(data_source::Specifier::Filename(file)),
                ..DataSource::default()
            })
        }
        Modules::Http { origin, current } => {
            let sha256 = current.sha256.get(module).cloned().unwrap_or_default();
            async_data_source::Specifier::Remote(RemoteDataSource {
                http_uri: Some(HttpUri {
                    uri: format!("http://{origin}/wasm/{sha256}/{module}.wasm"),
                    http_upstream_type: Some(HttpUpstreamType::Cluster(ORIGIN.into())),
                    timeout: proto::duration(FETCH_TIMEOUT),
                }),
                sha256,
                retry_policy: Some(RetryPolicy {
                    retry_back_off: Some(BackoffStrategy {
                        base_interval: proto::duration(FETCH_BACKOFF[0]),
                        max_interval: proto::duration(FETCH_BACKOFF[1]),
                    }),
                    num_retries: proto::uint32(FETCH_RETRIES),
                    ..RetryPolicy::default()
                }),
            })
        }
    };
    VmConfig {
        vm_id: format!("tollgate.{module}"),
        runtime: "envoy.wasm.runtime.v8".into(),
        code: Some(AsyncDataSource { specifier: Some(code) }),
        nack_on_code_cache_miss: matches!(modules, Modules::Http { .. }),
        ..VmConfig::default()
    }
}

/// The plugin that runs `module` with `configuration`.
pub(super) fn plugin(name: &str, module: &str, configuration: String, vm: VmConfig) -> Wasm {
    let plugin = PluginConfig {
        name: name.to_owned(),
        root_id: module.to_owned(),
        // A Struct would arrive in the VM as protobuf; a string arrives as it is.
        configuration: Some(any(&StringValue { value: configuration })),
        // A trap costs the request it happened in; the next one gets a new VM.
        failure_policy: FailurePolicy::FailReload.into(),
        vm: Some(plugin_config::Vm::VmConfig(vm)),
        ..PluginConfig::default()
    };
    Wasm { config: Some(plugin) }
}

/// The clusters by which `needed` modules arrive, each with a configuration that it takes.
pub(super) fn clusters(modules: &Modules, needed: [(&str, String); 1]) -> Vec<EnvoyCluster> {
    let Modules::Http { origin, current } = modules else { return Vec::new() };
    let warming = needed.into_iter().filter_map(|(module, configuration)| {
        let sha256 = current.sha256.get(module)?;
        let name = format!("{ORIGIN}/{module}/{sha256}");
        // Here the fetch is waited for.
        let vm = VmConfig { nack_on_code_cache_miss: false, ..vm(module, modules) };
        let wasm = plugin(&format!("{ORIGIN}/{module}"), module, configuration, vm);
        Some(warming(name, &wasm, current.refresh))
    });
    std::iter::once(self::origin(origin)).chain(warming).collect()
}

fn origin(address: &Address) -> EnvoyCluster {
    let discovery = if address.ip().is_some() { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    let endpoint = Endpoint { address: address.clone(), weight: 1 };
    EnvoyCluster {
        name: ORIGIN.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        load_assignment: Some(endpoint::load_assignment(ORIGIN, &[endpoint])),
        connect_timeout: proto::duration(CONNECT_TIMEOUT),
        typed_extension_protocol_options: HashMap::from([(
            cluster::HTTP_OPTIONS.into(),
            any(&cluster::http_options(Protocol::Http1)),
        )]),
        ..EnvoyCluster::default()
    }
}

fn warming(name: String, wasm: &Wasm, refresh: u64) -> EnvoyCluster {
    let filter = |name: &str, config| HttpFilter {
        name: name.into(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    };
    let mut options = cluster::http_options(Protocol::Http1);
    options.http_filters = vec![filter("module", any(wasm)), filter("codec", any(&UpstreamCodec::default()))];
    // A changed cluster is warmed anew, which loads the module anew.
    let value = Value { kind: Some(Kind::StringValue(refresh.to_string())) };
    let refresh = Struct { fields: HashMap::from([("refresh".to_owned(), value)]) };
    EnvoyCluster {
        load_assignment: Some(endpoint::load_assignment(&name, &[])),
        name,
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        connect_timeout: proto::duration(CONNECT_TIMEOUT),
        typed_extension_protocol_options: HashMap::from([(cluster::HTTP_OPTIONS.into(), any(&options))]),
        metadata: Some(Metadata {
            filter_metadata: HashMap::from([("tollgate".to_owned(), refresh)]),
            ..Metadata::default()
        }),
        ..EnvoyCluster::default()
    }
}
