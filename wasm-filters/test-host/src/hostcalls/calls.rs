//! HTTP callouts: what Envoy checks before it sends one. Nothing is sent; a test answers.

use std::time::Duration;

use wasmtime::{Caller, Linker};

use super::{Answer, ENV, Guest, answer};
use crate::abi::Status;
use crate::headers::HeaderMap;
use crate::vm::state::{HttpCall, Tokens, VmState};

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_http_call",
        |caller: Caller<'_, VmState>,
         cluster: u32,
         cluster_length: u32,
         headers: u32,
         headers_length: u32,
         body: u32,
         body_length: u32,
         trailers: u32,
         trailers_length: u32,
         milliseconds: u32,
         token_at: u32| {
            answer(caller, "proxy_http_call", |guest| {
                let cluster = guest.read_text(cluster, cluster_length)?;
                let headers = guest.read_pairs(headers, headers_length)?;
                let body = guest.read(body, body_length)?;
                let trailers = guest.read_pairs(trailers, trailers_length)?;
                // Before anything is sent, so that a bad pointer sends nothing.
                guest.write_u32(token_at, 0)?;
                let token = send(guest, cluster, headers, body, trailers, milliseconds)?;
                guest.write_u32(token_at, token)
            })
        },
    )?;
    Ok(())
}

fn send(
    guest: &mut Guest<'_>,
    cluster: String,
    mut headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
    milliseconds: u32,
) -> Answer<u32> {
    let state = guest.state_mut();
    let known = state.shared.clusters.borrow().get(&cluster).copied();
    let has_hosts = known.ok_or(Status::BadArgument)?;
    // Envoy reads the limit as a signed number.
    if milliseconds > i32::MAX as u32
        || [":path", ":method", ":authority"].iter().any(|name| !headers.contains(name))
    {
        return Err(Status::BadArgument.into());
    }
    let token = state.tokens.callout(Tokens::HTTP_CALL);
    if !has_hosts {
        return Err(Status::InternalFailure.into());
    }
    if !body.is_empty() {
        headers.replace("content-length", body.len().to_string());
    }
    let time_limit = (milliseconds > 0).then(|| Duration::from_millis(milliseconds.into()));
    let call = HttpCall {
        owner: state.context(),
        cluster,
        headers,
        body,
        trailers,
        time_limit,
        deadline: state.deadline(milliseconds),
    };
    state.http_calls.insert(token, call);
    Ok(token)
}
