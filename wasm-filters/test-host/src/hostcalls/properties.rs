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
                let stream = guest.state_mut().stream().ok_or(Status::NotFound)?;
                stream.filter_state.insert(path, value);
                Ok(())
            })
        },
    )?;
    Ok(())
}

fn find(guest: &mut Guest<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let spec = guest.state().spec.clone();
    let segments: Vec<&[u8]> = path.split(|byte| *byte == 0).collect();
    let stream = guest.state_mut().stream();
    let given = stream.as_ref().and_then(|stream| stream.properties.get(path));
    if let Some(value) = given.or_else(|| spec.properties.get(path)) {
        return Some(value.clone());
    }
    match segments.as_slice() {
        [b"plugin_name"] => Some(spec.name.clone().into_bytes()),
        [b"plugin_root_id"] => Some(spec.root_id.clone().into_bytes()),
        [b"plugin_vm_id"] => Some(spec.vm_id.clone().into_bytes()),
        [b"request", rest @ ..] => of_request(stream?, rest),
        [b"response", b"code"] => {
            let code: i64 = stream?.response.headers.text(":status")?.parse().ok()?;
            Some(code.to_le_bytes().to_vec())
        }
        [b"filter_state", key] => stream?.filter_state.get(key.strip_prefix(b"wasm.")?).cloned(),
        _ => stream?.filter_state.get(path).cloned(),
    }
}

fn of_request(stream: &StreamState, rest: &[&[u8]]) -> Option<Vec<u8>> {
    let headers = &stream.request.headers;
    let value = match rest {
        [b"path"] => headers.get(":path"),
        [b"url_path"] => headers.get(":path").and_then(|path| path.split(|byte| *byte == b'?').next()),
        [b"host"] => headers.get(":authority"),
        [b"method"] => headers.get(":method"),
        [b"scheme"] => headers.get(":scheme"),
        [b"id"] => headers.get("x-request-id"),
        [b"useragent"] => headers.get("user-agent"),
        // An empty header reads as no header, as measured.
        [b"headers", name] => headers.get(name).filter(|value| !value.is_empty()),
        _ => None,
    };
    value.map(<[u8]>::to_vec)
}
