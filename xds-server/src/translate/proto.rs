//! Small protos that every resource needs: wrappers, durations, addresses, the ADS config source.

use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, address,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::{BoolValue, Duration, UInt32Value};

use crate::gateway::scalar;
use crate::proto_time;

pub(super) fn uint32(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(super) fn duration(duration: scalar::Duration) -> Option<Duration> {
    Some(proto_time::duration(duration.get()))
}

pub(super) fn address(address: &scalar::Address) -> Option<Address> {
    let socket = SocketAddress {
        address: address.host.clone(),
        port_specifier: Some(PortSpecifier::PortValue(address.port.into())),
        ..SocketAddress::default()
    };
    Some(Address { address: Some(address::Address::SocketAddress(socket)) })
}

/// From the same ADS stream as everything else. Without a timeout: a listener that started with an empty
/// route table would answer 404, one that waits is just not there yet.
pub(super) fn ads() -> Option<ConfigSource> {
    ads_waiting(Some(Duration::default()))
}

/// From the same ADS stream, for what need not be there at first.
pub(super) fn ads_within(timeout: scalar::Duration) -> Option<ConfigSource> {
    ads_waiting(duration(timeout))
}

fn ads_waiting(initial_fetch_timeout: Option<Duration>) -> Option<ConfigSource> {
    Some(ConfigSource {
        initial_fetch_timeout,
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    })
}

pub(super) fn regex(regex: &scalar::Regex) -> RegexMatcher {
    RegexMatcher { regex: regex.as_str().to_owned(), engine_type: None }
}

pub(super) fn string_matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { ignore_case: false, match_pattern: Some(pattern) }
}
