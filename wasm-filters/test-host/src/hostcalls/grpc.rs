//! gRPC calls and streams. Nothing is sent; a test answers.

use wasmtime::{Caller, Linker};

use super::{Answer, ENV, Fault, Guest, answer};
use crate::abi::Status;
use crate::headers::HeaderMap;
use crate::protobuf;
use crate::vm::state::{GrpcCall, Tokens, VmState};

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_grpc_call",
        |caller: Caller<'_, VmState>,
         upstream: u32,
         upstream_length: u32,
         service: u32,
         service_length: u32,
         method: u32,
         method_length: u32,
         metadata: u32,
         metadata_length: u32,
         message: u32,
         message_length: u32,
         milliseconds: u32,
         token_at: u32| {
            answer(caller, "proxy_grpc_call", |guest| {
                let upstream = guest.read(upstream, upstream_length)?;
                let service = guest.read_text(service, service_length)?;
                let method = guest.read_text(method, method_length)?;
                let metadata = guest.read_pairs(metadata, metadata_length)?;
                let message = guest.read(message, message_length)?;
                let token = open(guest, &upstream, service, method, metadata, Some((message, milliseconds)))?;
                guest.write_u32(token_at, token)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_grpc_stream",
        |caller: Caller<'_, VmState>,
         upstream: u32,
         upstream_length: u32,
         service: u32,
         service_length: u32,
         method: u32,
         method_length: u32,
         metadata: u32,
         metadata_length: u32,
         token_at: u32| {
            answer(caller, "proxy_grpc_stream", |guest| {
                let upstream = guest.read(upstream, upstream_length)?;
                let service = guest.read_text(service, service_length)?;
                let method = guest.read_text(method, method_length)?;
                let metadata = guest.read_pairs(metadata, metadata_length)?;
                let token = open(guest, &upstream, service, method, metadata, None)?;
                guest.write_u32(token_at, token)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_grpc_send",
        |caller: Caller<'_, VmState>, token: u32, at: u32, length: u32, end: u32| {
            answer(caller, "proxy_grpc_send", |guest| {
                let message = guest.read(at, length)?;
                if Kind::of(token)? != Kind::Stream {
                    return Err(Status::BadArgument.into());
                }
                let call = guest.state_mut().grpc_calls.get_mut(&token).ok_or(Status::NotFound)?;
                call.messages.push(message);
                call.local_closed |= end != 0;
                Ok(())
            })
        },
    )?;
    linker.func_wrap(ENV, "proxy_grpc_close", |caller: Caller<'_, VmState>, token: u32| {
        answer(caller, "proxy_grpc_close", |guest| {
            Kind::of(token)?;
            let calls = &mut guest.state_mut().grpc_calls;
            let call = calls.get_mut(&token).ok_or(Status::NotFound)?;
            // Closing a stream is half-closing it: the other side may go on.
            if call.streaming {
                call.local_closed = true;
            } else {
                calls.remove(&token);
            }
            Ok(())
        })
    })?;
    linker.func_wrap(ENV, "proxy_grpc_cancel", |caller: Caller<'_, VmState>, token: u32| {
        answer(caller, "proxy_grpc_cancel", |guest| {
            Kind::of(token)?;
            guest.state_mut().grpc_calls.remove(&token).ok_or(Status::NotFound)?;
            Ok(())
        })
    })?;
    Ok(())
}

fn open(
    guest: &mut Guest<'_>,
    upstream: &[u8],
    service: String,
    method: String,
    metadata: HeaderMap,
    unary: Option<(Vec<u8>, u32)>,
) -> Answer<u32> {
    let state = guest.state_mut();
    let cluster = cluster(state, upstream)?;
    let streaming = unary.is_none();
    let (message, milliseconds) = unary.unwrap_or_default();
    let token = state.tokens.callout(if streaming { Tokens::GRPC_STREAM } else { Tokens::GRPC_CALL });
    let call = GrpcCall {
        owner: state.context(),
        streaming,
        cluster,
        service,
        method,
        metadata,
        messages: if streaming { Vec::new() } else { vec![message] },
        local_closed: !streaming,
        deadline: state.deadline(milliseconds),
    };
    state.grpc_calls.insert(token, call);
    Ok(token)
}

/// The upstream is a serialized `envoy.config.core.v3.GrpcService`, or the bare name of a cluster where it is not a
/// protobuf message. Some names are one by chance: `users` is a fixed 32-bit field 14. Envoy 1.40 aborts on a message
/// that has no target, and takes all its streams with it; here the module falls over.
fn cluster(state: &VmState, upstream: &[u8]) -> Answer<String> {
    let clusters = state.shared.clusters.borrow();
    let known = |name: &[u8]| clusters.keys().find(|have| have.as_bytes() == name).cloned();
    let Some(service) = protobuf::fields(upstream) else {
        return Ok(known(upstream).ok_or(Status::ParseFailure)?);
    };
    let Some(envoy_grpc) = protobuf::bytes(&service, 1) else {
        let name = String::from_utf8_lossy(upstream);
        let why = format!("Envoy aborts: {name:?} is a protobuf message, but no GrpcService with envoy_grpc");
        return Err(Fault::Trap(wasmtime::Error::msg(why)));
    };
    let envoy_grpc = protobuf::fields(envoy_grpc).ok_or(Status::ParseFailure)?;
    let name = protobuf::bytes(&envoy_grpc, 1).ok_or(Status::BadArgument)?;
    Ok(known(name).ok_or(Status::InternalFailure)?)
}

/// What a token is for: its two low bits say it.
#[derive(PartialEq, Eq)]
enum Kind {
    Call,
    Stream,
}

impl Kind {
    fn of(token: u32) -> Result<Self, Status> {
        match token & 3 {
            Tokens::GRPC_CALL => Ok(Self::Call),
            Tokens::GRPC_STREAM => Ok(Self::Stream),
            _ => Err(Status::BadArgument),
        }
    }
}
