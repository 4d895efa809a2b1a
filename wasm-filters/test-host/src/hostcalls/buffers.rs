//! Bodies, configurations and the bodies of callouts.

use wasmtime::{Caller, Linker};

use super::{Answer, ENV, Guest, answer};
use crate::abi::{BufferType, Direction, Status};
use crate::vm::state::VmState;
use crate::vm::stream::Stop;

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_buffer_bytes",
        |caller: Caller<'_, VmState>, kind: u32, start: u32, max: u32, bytes_at: u32, length_at: u32| {
            answer(caller, "proxy_get_buffer_bytes", |guest| {
                let buffer = read(guest, BufferType::from_abi(kind)?)?;
                let start = start as usize;
                let end = start.saturating_add(max as usize).min(buffer.len());
                match buffer.get(start..end) {
                    // Envoy leaves the module's pointers alone when there is nothing to give.
                    None | Some([]) => Ok(()),
                    Some(bytes) => guest.give(bytes, bytes_at, length_at),
                }
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_buffer_status",
        |caller: Caller<'_, VmState>, kind: u32, length_at: u32, flags_at: u32| {
            answer(caller, "proxy_get_buffer_status", |guest| {
                let length = read(guest, BufferType::from_abi(kind)?)?.len() as u32;
                guest.write_u32(length_at, length)?;
                guest.write_u32(flags_at, 0)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_buffer_bytes",
        |caller: Caller<'_, VmState>, kind: u32, start: u32, size: u32, at: u32, length: u32| {
            answer(caller, "proxy_set_buffer_bytes", |guest| {
                let kind = BufferType::from_abi(kind)?;
                let bytes = guest.read(at, length)?;
                write(guest, kind, start as usize, size as usize, bytes)
            })
        },
    )?;
    Ok(())
}

/// The whole buffer. A body that the filter let go is an empty buffer; others are not found outside their callback.
fn read(guest: &mut Guest<'_>, kind: BufferType) -> Answer<Vec<u8>> {
    let state = guest.state_mut();
    let bytes = match kind {
        BufferType::Body(direction) => {
            let Some(stream) = state.stream() else { return Ok(Vec::new()) };
            let half = stream.half(direction);
            let visible = half.body_visible || half.stop == Stop::Body;
            Some(if visible { half.buffer.clone() } else { Vec::new() })
        }
        BufferType::VmConfiguration => Some(state.spec.vm_configuration.clone()),
        BufferType::PluginConfiguration => state.configuring.then(|| state.spec.configuration.clone()),
        BufferType::CallBody => state.received.http.as_ref().map(|(_, body, _)| body.clone()),
        BufferType::GrpcMessage => Some(state.received.grpc_message.clone().unwrap_or_default()),
        BufferType::Tcp(direction) => {
            let context = state.context();
            let flow = state.connections.get_mut(&context).map(|connection| connection.flow(direction));
            Some(flow.filter(|flow| flow.visible).map(|flow| flow.buffer.clone()).unwrap_or_default())
        }
        BufferType::CallData => Some(state.received.arguments.clone()),
    };
    Ok(bytes.ok_or(Status::NotFound)?)
}

/// Envoy's rules: prepend at 0 with size 0, replace all from 0, append from the end on; nothing in between.
fn write(guest: &mut Guest<'_>, kind: BufferType, start: usize, size: usize, bytes: Vec<u8>) -> Answer {
    let direction = match kind {
        BufferType::Body(direction) => direction,
        BufferType::Tcp(direction) => return write_tcp(guest, direction, start, size, bytes),
        // Found or not, these cannot be changed.
        kind => return read(guest, kind).and(Err(Status::BadArgument.into())),
    };
    let stream = guest.state_mut().stream().ok_or(Status::BadArgument)?;
    let half = stream.half(direction);
    if !half.body_visible && half.stop != Stop::Body {
        return Err(Status::BadArgument.into());
    }
    splice(&mut half.buffer, start, size, bytes)
}

fn write_tcp(
    guest: &mut Guest<'_>,
    direction: Direction,
    start: usize,
    size: usize,
    bytes: Vec<u8>,
) -> Answer {
    let state = guest.state_mut();
    let context = state.context();
    let flow = state.connections.get_mut(&context).map(|connection| connection.flow(direction));
    let flow = flow.filter(|flow| flow.visible).ok_or(Status::BadArgument)?;
    splice(&mut flow.buffer, start, size, bytes)
}

fn splice(buffer: &mut Vec<u8>, start: usize, size: usize, bytes: Vec<u8>) -> Answer {
    let length = buffer.len();
    match (start, size) {
        (0, 0) => {
            buffer.splice(0..0, bytes);
        }
        (0, size) if size >= length => *buffer = bytes,
        (0, _) => return Err(Status::BadArgument.into()),
        (start, _) if start >= length => buffer.extend(bytes),
        _ => return Err(Status::BadArgument.into()),
    }
    Ok(())
}
