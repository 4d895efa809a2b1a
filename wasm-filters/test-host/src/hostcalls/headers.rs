//! Header maps. A map that the filter may not see now is `BadArgument` (on which the Rust SDK panics, in Envoy too),
//! except that all its pairs read as an empty map.

use wasmtime::{Caller, Linker};

use super::{Answer, ENV, Guest, answer};
use crate::abi::{Direction, MapType, Status};
use crate::headers::HeaderMap;
use crate::pairs;
use crate::vm::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_pairs",
        |caller: Caller<'_, VmState>, map: u32, bytes_at: u32, length_at: u32| {
            answer(caller, "proxy_get_header_map_pairs", |guest| {
                let bytes = readable(guest, MapType::from_abi(map)?).map(pairs::encode).unwrap_or_default();
                guest.give(&bytes, bytes_at, length_at)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_size",
        |caller: Caller<'_, VmState>, map: u32, size_at: u32| {
            answer(caller, "proxy_get_header_map_size", |guest| {
                // Envoy asks for the map that could be changed.
                let map = writable(guest, MapType::from_abi(map)?)?;
                let size: usize = map.iter().map(|(name, value)| name.len() + value.len()).sum();
                guest.write_u32(size_at, size as u32)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_value",
        |caller: Caller<'_, VmState>, map: u32, key: u32, key_length: u32, value_at: u32, length_at: u32| {
            answer(caller, "proxy_get_header_map_value", |guest| {
                let map = MapType::from_abi(map)?;
                let key = guest.read(key, key_length)?;
                // What the access log does not have is an absent header, not a mistake.
                let absent = if guest.state_mut().stream().is_some_and(|stream| stream.logging) {
                    Status::NotFound
                } else {
                    Status::BadArgument
                };
                let map = readable(guest, map).ok_or(absent)?;
                let value = map.get(key).ok_or(Status::NotFound)?.to_vec();
                guest.give(&value, value_at, length_at)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_header_map_pairs",
        |caller: Caller<'_, VmState>, map: u32, at: u32, length: u32| {
            answer(caller, "proxy_set_header_map_pairs", |guest| {
                let map = MapType::from_abi(map)?;
                let pairs = guest.read_pairs(at, length)?;
                let map = writable(guest, map)?;
                map.clear();
                map.extend(pairs.iter());
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_add_header_map_value",
        |caller: Caller<'_, VmState>, map: u32, key: u32, key_length: u32, value: u32, value_length: u32| {
            answer(caller, "proxy_add_header_map_value", |guest| {
                let map = MapType::from_abi(map)?;
                let (key, value) = (guest.read(key, key_length)?, guest.read(value, value_length)?);
                writable(guest, map)?.add(key, value);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_replace_header_map_value",
        |caller: Caller<'_, VmState>, map: u32, key: u32, key_length: u32, value: u32, value_length: u32| {
            answer(caller, "proxy_replace_header_map_value", |guest| {
                let map = MapType::from_abi(map)?;
                let (key, value) = (guest.read(key, key_length)?, guest.read(value, value_length)?);
                writable(guest, map)?.replace(key, value);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_remove_header_map_value",
        |caller: Caller<'_, VmState>, map: u32, key: u32, key_length: u32| {
            answer(caller, "proxy_remove_header_map_value", |guest| {
                let map = MapType::from_abi(map)?;
                let key = guest.read(key, key_length)?;
                writable(guest, map)?.remove(key);
                Ok(())
            })
        },
    )?;
    Ok(())
}

/// The map, if it can be read now. The access log sees the headers after the filter has let them go.
fn readable<'a>(guest: &'a mut Guest<'_>, map: MapType) -> Option<&'a HeaderMap> {
    let state = guest.state_mut();
    match map {
        MapType::CallHeaders => return state.received.http.as_ref().map(|(headers, _, _)| headers),
        // An answer without trailers has no map of them, not an empty one.
        MapType::CallTrailers => {
            let trailers = state.received.http.as_ref().map(|(_, _, trailers)| trailers);
            return trailers.filter(|trailers| !trailers.is_empty());
        }
        MapType::GrpcInitialMetadata => return state.received.grpc_initial.as_ref(),
        MapType::GrpcTrailingMetadata => return state.received.grpc_trailing.as_ref(),
        MapType::Headers(_) | MapType::Trailers(_) => {}
    }
    let stream = state.stream()?;
    let logging = stream.logging;
    match map {
        MapType::Headers(direction) => {
            let half = stream.half(direction);
            let visible = if logging { half.started } else { half.headers_visible };
            visible.then_some(&half.headers)
        }
        MapType::Trailers(direction) => {
            let half = stream.half(direction);
            let visible = if logging { direction == Direction::Response } else { half.trailers_visible };
            half.trailers.as_ref().filter(|_| visible)
        }
        _ => None,
    }
}

/// The map, if it can be changed now.
fn writable<'a>(guest: &'a mut Guest<'_>, map: MapType) -> Answer<&'a mut HeaderMap> {
    let stream = guest.state_mut().stream().ok_or(Status::BadArgument)?;
    let map = match map {
        MapType::Headers(direction) => {
            let half = stream.half(direction);
            half.headers_visible.then_some(&mut half.headers)
        }
        MapType::Trailers(direction) => {
            let half = stream.half(direction);
            // At the end of a body that has no trailers, it is given some by being asked for them.
            if half.body_ended && half.trailers.is_none() {
                half.trailers = Some(HeaderMap::new());
                half.trailers_visible = true;
            }
            let visible = half.trailers_visible;
            half.trailers.as_mut().filter(|_| visible)
        }
        _ => None,
    };
    Ok(map.ok_or(Status::BadArgument)?)
}
