//! Listeners → Listener (LDS). What changes often is elsewhere (RDS, ECDS): a changed listener drains.

use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::core::v3::{ExtensionConfigSource, Http2ProtocolOptions, HttpProtocolOptions};
use envoy_types::pb::envoy::config::listener::v3::{
    self as envoy, ApiListener, Filter as NetworkFilter, FilterChain,
};
use envoy_types::pb::envoy::extensions::filters::http::dynamic_modules::v3::DynamicModuleFilter;
use envoy_types::pb::envoy::extensions::filters::http::on_demand::v3::OnDemand;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, SetCurrentClientCertDetails,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
};
use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;

use super::cluster::BUFFER_LIMIT;
use super::filter::Filter;
use super::{any, proto, tls};
use crate::gateway::model::Listener;
use crate::gateway::scalar::{Duration, Name};

const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const ON_DEMAND: &str = "envoy.filters.http.on_demand";
const ROUTER: &str = "envoy.filters.http.router";

/// HTTP/2 bounds of Envoy's best practices for an edge proxy.
const MAX_STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// For a TLS handshake. Until it is done, none of the times for requests count.
const HANDSHAKE: Duration = Duration::from_millis(10_000);

/// The listener, with its filters fetched over ECDS and its routes over RDS.
pub(super) fn listener(name: &Name, listener: &Listener, filters: &[Filter]) -> envoy::Listener {
    let Some(address) = listener.address.as_ref().filter(|_| !listener.api_listener) else {
        return api_listener(name);
    };
    let manager = NetworkFilter {
        name: CONNECTION_MANAGER.into(),
        config_type: Some(envoy::filter::ConfigType::TypedConfig(any(&manager(name, listener, filters)))),
    };
    let chain = FilterChain {
        filters: vec![manager],
        transport_socket: listener.tls.as_ref().map(tls::downstream),
        transport_socket_connect_timeout: listener.tls.as_ref().and_then(|_| proto::duration(HANDSHAKE)),
        ..FilterChain::default()
    };
    envoy::Listener {
        name: name.as_str().to_owned(),
        address: proto::address(address),
        filter_chains: vec![chain],
        per_connection_buffer_limit_bytes: proto::uint32(BUFFER_LIMIT),
        ..envoy::Listener::default()
    }
}

/// What gRPC clients fetch in place of a listener (gRFC A27). They refuse filters that they don't know, and options that
/// are for proxies, so there are none but the router.
fn api_listener(name: &Name) -> envoy::Listener {
    let manager = HttpConnectionManager {
        http_filters: vec![built_in(ROUTER, any(&Router::default()))],
        route_specifier: routes(name),
        ..HttpConnectionManager::default()
    };
    envoy::Listener {
        name: name.as_str().to_owned(),
        api_listener: Some(ApiListener { api_listener: Some(any(&manager)) }),
        ..envoy::Listener::default()
    }
}

fn routes(name: &Name) -> Option<RouteSpecifier> {
    let route_config_name = name.as_str().to_owned();
    Some(RouteSpecifier::Rds(Rds { config_source: proto::ads(), route_config_name }))
}

fn built_in(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.into(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

fn manager(name: &Name, listener: &Listener, filters: &[Filter]) -> HttpConnectionManager {
    // First: the others read the policies of the route, which is known once its virtual host is there.
    let on_demand = listener.on_demand.then(|| built_in(ON_DEMAND, any(&OnDemand::default())));
    let mut http_filters: Vec<HttpFilter> =
        on_demand.into_iter().chain(filters.iter().map(http_filter)).collect();
    http_filters.push(built_in(ROUTER, any(&Router::default())));
    let shows_client = listener.tls.as_ref().is_some_and(|tls| tls.client_certificate.is_some());
    HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: name.as_str().to_owned(),
        http_filters,
        route_specifier: routes(name),
        use_remote_address: proto::boolean(true),
        xff_num_trusted_hops: listener.trusted_hops,
        // Where clients show no certificate, the header is only removed, which is the default.
        forward_client_cert_details: match shows_client {
            true => ForwardClientCertDetails::SanitizeSet,
            false => ForwardClientCertDetails::Sanitize,
        }
        .into(),
        set_current_client_cert_details: shows_client.then(|| SetCurrentClientCertDetails {
            subject: proto::boolean(true),
            dns: true,
            uri: true,
            ..SetCurrentClientCertDetails::default()
        }),
        // A path has one form before any route or policy is chosen by it.
        normalize_path: proto::boolean(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::UnescapeAndRedirect.into(),
        stream_idle_timeout: proto::duration(listener.stream_idle_timeout),
        request_headers_timeout: proto::duration(listener.request_headers_timeout),
        common_http_protocol_options: Some(HttpProtocolOptions {
            // `x_consumer_id` is `x-consumer-id` to many an upstream.
            headers_with_underscores_action: HeadersWithUnderscoresAction::RejectRequest.into(),
            ..HttpProtocolOptions::default()
        }),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: proto::uint32(MAX_STREAMS),
            initial_stream_window_size: proto::uint32(STREAM_WINDOW),
            initial_connection_window_size: proto::uint32(CONNECTION_WINDOW),
            ..Http2ProtocolOptions::default()
        }),
        ..HttpConnectionManager::default()
    }
}

fn http_filter(filter: &Filter) -> HttpFilter {
    HttpFilter {
        name: filter.name.clone(),
        config_type: Some(ConfigType::ConfigDiscovery(ExtensionConfigSource {
            config_source: proto::ads(),
            // Both, so that `filters` is no word of the listener: it would drain.
            type_urls: vec![Wasm::type_url(), DynamicModuleFilter::type_url()],
            ..ExtensionConfigSource::default()
        })),
        ..HttpFilter::default()
    }
}
