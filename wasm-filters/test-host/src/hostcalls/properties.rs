//! Properties: what the test set, what follows from the request and the plugin, and what filters set themselves.
//!
//! Envoy's whole attribute tree is not in here; a test sets the leaf that its filter reads.

use wasmtime::{Caller, Linker};

use super::{ENV, Guest, answer};
use crate::abi::Status;
use crate::vm::state::VmState;
use crate::vm::stream::StreamState;

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_property",
        |caller: Caller<'_, VmState>, path: u32, path_length: u32, value_at: u32, length_at: u32| {
            answer(caller, "proxy_get_property", |guest| {
                let path = guest.read(path, path_length)?;
                let value = find(guest, &path).ok_or(Status::NotFound)?;
                guest.give(&value, value_at, length_at)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_property",
        |caller: Caller<'_, VmState>, path: u32, path_length: u32, value: u32, value_length: u32| {
            answer(caller, "proxy_set_property", |guest| {
                let (path, value) = (guest.read(path, path_length)?, guest.read(value, value_length)?);
                let state = guest.state_mut();
                let readonly = state.declared.get(&path).copied().unwrap_or_default();
                let properties = &mut state.filter_state().ok_or(Status::NotFound)?.properties;
                if readonly && properties.contains_key(&path) {
                    return Err(Status::BadArgument.into());
                }
                properties.insert(path, value);
                Ok(())
            })
        },
    )?;
    Ok(())
}

fn find(guest: &mut Guest<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let state = guest.state_mut();
    let (spec, context) = (state.spec.clone(), state.context());
    let connection = state.connections.get(&context);
    let given = match connection {
        Some(connection) => connection.properties.get(path),
        None => state.streams.get(&context).and_then(|stream| stream.properties.get(path)),
    };
    if let Some(value) = given.or_else(|| spec.properties.get(path)) {
        return Some(value.clone());
    }
    let segments: Vec<&[u8]> = path.split(|byte| *byte == 0).collect();
    let of_filter = |state: &mut VmState, path: &[u8]| state.filter_state()?.properties.get(path).cloned();
    match segments.as_slice() {
        [b"plugin_name"] => Some(spec.name.clone().into_bytes()),
        [b"plugin_root_id"] => Some(spec.root_id.clone().into_bytes()),
        [b"plugin_vm_id"] => Some(spec.vm_id.clone().into_bytes()),
        [b"request", rest @ ..] => of_request(state.stream()?, rest),
        [b"response", rest @ ..] => of_response(state.stream()?, rest),
        [b"filter_state", key] => match key.strip_prefix(b"wasm.") {
            Some(key) => of_filter(state, key),
            None => state.filter_state()?.envoy.get(std::str::from_utf8(key).ok()?).cloned(),
        },
        _ => of_filter(state, path),
    }
}

fn of_request(stream: &StreamState, rest: &[&[u8]]) -> Option<Vec<u8>> {
    // Properties go with the headers they are of.
    let visible = stream.request.headers_visible || stream.logging;
    let headers = visible.then_some(&stream.request.headers)?;
    let path = headers.get(":path");
    let value = match rest {
        [b"path"] => path,
        [b"url_path"] => path.and_then(|path| path.split(|byte| *byte == b'?').next()),
        [b"query"] => path.map(|path| match path.iter().position(|byte| *byte == b'?') {
            Some(at) => &path[at + 1..],
            None => b"",
        }),
        [b"host"] => headers.get(":authority"),
        [b"method"] => headers.get(":method"),
        [b"scheme"] => headers.get(":scheme"),
        [b"id"] => headers.get("x-request-id"),
        [b"referer"] => headers.get("referer"),
        [b"useragent"] => headers.get("user-agent"),
        // An empty header reads as no header, as measured.
        [b"headers", name] => headers.get(name).filter(|value| !value.is_empty()),
        _ => None,
    };
    value.map(<[u8]>::to_vec)
}

fn of_response(stream: &StreamState, rest: &[&[u8]]) -> Option<Vec<u8>> {
    let headers = &stream.response.headers;
    match rest {
        [b"code"] => {
            let code: i64 = headers.text(":status")?.parse().ok()?;
            Some(code.to_le_bytes().to_vec())
        }
        [b"headers", name] if stream.response.headers_visible || stream.logging => {
            headers.get(name).filter(|value| !value.is_empty()).map(<[u8]>::to_vec)
        }
        [b"trailers", name] => stream.response.trailers.as_ref()?.get(name).map(<[u8]>::to_vec),
        _ => None,
    }
}
