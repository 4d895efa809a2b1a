//! Envoy's `declare_property` and `set_envoy_filter_state`, which decide what a stream carries beside its headers.

use crate::abi::Status;
use crate::protobuf;
use crate::vm::state::VmState;

/// Objects of Envoy 1.40 that are made from bytes; others are not found. Whether the bytes make sense is not checked.
const OBJECTS: &[&str] = &[
    "envoy.hashable_string",
    "envoy.network.application_protocols",
    "envoy.network.upstream_server_name",
    "envoy.network.upstream_subject_alt_names",
    "envoy.ratelimit.hits_addend",
    "envoy.string",
    "envoy.tcp_proxy.cluster",
    "envoy.tcp_proxy.disable_tunneling",
    "envoy.upstream.dynamic_host",
    "envoy.upstream.dynamic_port",
];

/// `{string name = 1; bool readonly = 2; …}`: what a property that the filter sets later may be. Declaring one twice is
/// a bad argument. Envoy looks at what root contexts declared only; type, schema and life span change nothing that a
/// filter can read back within a stream.
pub(crate) fn declare_property(state: &mut VmState, argument: &[u8]) -> Result<(), Status> {
    let fields = protobuf::fields(argument).ok_or(Status::BadArgument)?;
    let name = protobuf::bytes(&fields, 1).unwrap_or_default().to_vec();
    let readonly = protobuf::number(&fields, 2).is_some_and(|number| number != 0);
    if state.current != state.root {
        return Ok(());
    }
    if state.declared.contains_key(&name) {
        return Err(Status::BadArgument);
    }
    state.declared.insert(name, readonly);
    Ok(())
}

/// `{string path = 1; string value = 2; …}`: an object that other filters and clusters of Envoy read.
pub(crate) fn set(state: &mut VmState, argument: &[u8]) -> Result<(), Status> {
    let fields = protobuf::fields(argument).ok_or(Status::BadArgument)?;
    let field = |number| protobuf::bytes(&fields, number).unwrap_or_default();
    let path = String::from_utf8_lossy(field(1)).into_owned();
    if !OBJECTS.contains(&path.as_str()) {
        return Err(Status::NotFound);
    }
    let value = field(2).to_vec();
    state.filter_state().ok_or(Status::NotFound)?.envoy.insert(path, value);
    Ok(())
}
