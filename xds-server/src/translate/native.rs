//! The filters as a library that lies on the Envoys' own disks: one of Envoy's dynamic modules, made of the same code as the
//! Wasm module and with the same configuration. Envoy loads it when a configuration first names it; where it can't, it
//! refuses that configuration and keeps the filter that it had.

use envoy_types::pb::envoy::extensions::dynamic_modules::v3::DynamicModuleConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_modules::v3::DynamicModuleFilter;
use envoy_types::pb::google::protobuf::StringValue;

use super::any;

/// `libtollgate_gateway.so`.
const LIBRARY: &str = "tollgate_gateway";

/// What Envoy puts before the counters of Wasm modules, so that they have one name however filters run.
const METRICS: &str = "wasmcustom";

/// The library's filter of that name, with `configuration`.
pub(super) fn filter(name: &str, configuration: String) -> DynamicModuleFilter {
    let library = DynamicModuleConfig {
        name: LIBRARY.into(),
        // Requests and calls may outlive the last configuration that names it.
        do_not_close: true,
        metrics_namespace: METRICS.into(),
        ..DynamicModuleConfig::default()
    };
    DynamicModuleFilter {
        dynamic_module_config: Some(library),
        filter_name: name.into(),
        filter_config: Some(any(&StringValue { value: configuration })),
        ..DynamicModuleFilter::default()
    }
}
