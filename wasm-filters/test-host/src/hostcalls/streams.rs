//! Continuing, closing and answering streams.

use wasmtime::{Caller, Linker};

use super::{ENV, answer};
use crate::abi::{Direction, Status};
use crate::vm::state::{Action, VmState};
use crate::vm::stream::ReplyRequest;

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "proxy_continue_stream", |caller: Caller<'_, VmState>, kind: u32| {
        answer(caller, "proxy_continue_stream", |guest| {
            let state = guest.state_mut();
            let context = state.context();
            let direction = direction(kind)?.ok_or(Status::BadArgument)?;
            if let Some(stream) = state.streams.get_mut(&context) {
                // Gone at once, although the stream goes on only after the callback: a filter that continues first
                // and changes headers then is refused by Envoy, too.
                stream.request.hide();
                state.actions.push(Action::Continue(context, direction));
            }
            Ok(())
        })
    })?;
    linker.func_wrap(ENV, "proxy_close_stream", |caller: Caller<'_, VmState>, kind: u32| {
        answer(caller, "proxy_close_stream", |guest| {
            if direction(kind)?.is_some()
                && let Some(stream) = guest.state_mut().stream()
            {
                stream.reset = true;
            }
            Ok(())
        })
    })?;
    linker.func_wrap(
        ENV,
        "proxy_send_local_response",
        |caller: Caller<'_, VmState>,
         status: u32,
         details: u32,
         details_length: u32,
         body: u32,
         body_length: u32,
         headers: u32,
         headers_length: u32,
         grpc_status: i32| {
            answer(caller, "proxy_send_local_response", |guest| {
                let reply = ReplyRequest {
                    status,
                    details: guest.read_text(details, details_length)?,
                    body: guest.read(body, body_length)?,
                    headers: guest.read_pairs(headers, headers_length)?,
                    grpc_status,
                };
                let state = guest.state_mut();
                let context = state.context();
                state.actions.push(Action::Reply(context, reply));
                Ok(())
            })
        },
    )?;
    linker.func_wrap(ENV, "proxy_clear_route_cache", |caller: Caller<'_, VmState>| {
        answer(caller, "proxy_clear_route_cache", |guest| {
            clear_route_cache(guest.state_mut());
            Ok(())
        })
    })?;
    Ok(())
}

/// Counted only: this host has no routes.
pub(super) fn clear_route_cache(state: &mut VmState) {
    if let Some(stream) = state.stream() {
        stream.route_cache_clears += 1;
    }
}

/// HTTP halves; `None` for the TCP ones, which no HTTP filter has.
fn direction(kind: u32) -> Result<Option<Direction>, Status> {
    match kind {
        0 => Ok(Some(Direction::Request)),
        1 => Ok(Some(Direction::Response)),
        2 | 3 => Ok(None),
        _ => Err(Status::BadArgument),
    }
}
