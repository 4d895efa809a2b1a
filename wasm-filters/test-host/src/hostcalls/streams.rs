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
            match Half::from_abi(kind)? {
                Half::Http(direction) => {
                    if let Some(stream) = state.streams.get_mut(&context) {
                        // Gone at once, although the stream goes on only after the callback: a filter that continues
                        // first and changes headers then is refused by Envoy, too.
                        stream.request.hide();
                        state.actions.push(Action::Continue(context, direction));
                    }
                    Ok(())
                }
                Half::Downstream => {
                    state.actions.push(Action::ContinueReading(context));
                    Ok(())
                }
                Half::Upstream => Err(Status::Unimplemented.into()),
            }
        })
    })?;
    linker.func_wrap(ENV, "proxy_close_stream", |caller: Caller<'_, VmState>, kind: u32| {
        answer(caller, "proxy_close_stream", |guest| {
            let half = Half::from_abi(kind)?;
            let state = guest.state_mut();
            let context = state.context();
            state.actions.push(match half {
                Half::Http(_) => Action::Reset(context),
                Half::Downstream | Half::Upstream => Action::CloseConnection(context),
            });
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
                    details: without_spaces(&guest.read_text(details, details_length)?),
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
    Ok(())
}

/// What `proxy_stream_type_t` names.
enum Half {
    Http(Direction),
    Downstream,
    Upstream,
}

impl Half {
    fn from_abi(number: u32) -> Result<Self, Status> {
        match number {
            0 => Ok(Self::Http(Direction::Request)),
            1 => Ok(Self::Http(Direction::Response)),
            2 => Ok(Self::Downstream),
            3 => Ok(Self::Upstream),
            _ => Err(Status::BadArgument),
        }
    }
}

/// Details go into the access log, where Envoy has no white space.
fn without_spaces(details: &str) -> String {
    details.chars().map(|one| if one.is_ascii_whitespace() { '_' } else { one }).collect()
}
