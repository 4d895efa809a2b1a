//! The part of WASI that Envoy gives: standard output as log lines, the environment that the plugin is configured with,
//! clocks, random bytes, and no files.

use wasmtime::{Caller, FuncType, Linker, Val, ValType};

use super::system::log;
use super::{Answer, Fault, Guest, restricted};
use crate::abi::{self, HOST_FUNCTIONS, HostFunction, LogLevel, Support};
use crate::vm::state::VmState;

/// Envoy gives both, and makes no difference between them.
pub(super) const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// WASI's error numbers.
const SUCCESS: u32 = 0;
const BAD_FILE: u32 = 8;
const FAULT: u32 = 21;
const INVALID: u32 = 28;
const NOT_SUPPORTED: u32 = 58;

/// Most random bytes that Envoy gives at once.
const MOST_RANDOM: u32 = 64 * 1024;

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    for function in HOST_FUNCTIONS {
        if let Support::Answers(fixed) = function.support {
            link_fixed(linker, function, fixed)?;
        }
    }
    for module in MODULES {
        link_module(linker, module)?;
    }
    linker.func_wrap("env", "pthread_equal", |caller: Caller<'_, VmState>, left: u32, right: u32| {
        if caller.data().starting { Err(restricted("pthread_equal")) } else { Ok(u32::from(left == right)) }
    })?;
    Ok(())
}

/// Links what always answers the same.
fn link_fixed(
    linker: &mut Linker<VmState>,
    function: &'static HostFunction,
    fixed: abi::Answer,
) -> wasmtime::Result<()> {
    let kind = |name: &str| if name == "i64" { ValType::I64 } else { ValType::I32 };
    let params = function.params.split_whitespace().map(kind);
    let results = function.result.split_whitespace().map(kind);
    let kind = FuncType::new(linker.engine(), params, results);
    let modules = if function.module == "env" { &["env"][..] } else { &MODULES };
    for module in modules {
        linker.func_new(module, function.name, kind.clone(), move |caller, arguments, results| {
            if caller.data().starting && !function.at_start {
                return Err(restricted(function.name));
            }
            let number = match fixed {
                abi::Answer::Always(number) => number,
                abi::Answer::StandardStreams => match arguments.first() {
                    Some(Val::I32(1 | 2)) => SUCCESS,
                    _ => BAD_FILE,
                },
                abi::Answer::Nothing => return Ok(()),
            };
            if let Some(result) = results.first_mut() {
                *result = Val::I32(number.cast_signed());
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn link_module(linker: &mut Linker<VmState>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "fd_write",
        |caller: Caller<'_, VmState>, file: u32, parts: u32, count: u32, written_at: u32| {
            errno(caller, |guest| write(guest, file, parts, count, written_at))
        },
    )?;
    linker.func_wrap(
        module,
        "fd_pwrite",
        |caller: Caller<'_, VmState>, file: u32, parts: u32, count: u32, _: u64, written_at: u32| {
            errno(caller, |guest| write(guest, file, parts, count, written_at))
        },
    )?;
    linker.func_wrap(module, "fd_fdstat_get", |caller: Caller<'_, VmState>, file: u32, at: u32| {
        errno(caller, |guest| {
            if file != 1 && file != 2 {
                return Ok(BAD_FILE);
            }
            let mut stat = [0; 24];
            stat[8] = 64; // The right to write.
            // Envoy does not look whether it could be written.
            let _ = guest.write(at, &stat);
            Ok(SUCCESS)
        })
    })?;
    linker.func_wrap(
        module,
        "args_sizes_get",
        |caller: Caller<'_, VmState>, count_at: u32, size_at: u32| {
            errno(caller, |guest| sizes(guest, 0, 0, count_at, size_at))
        },
    )?;
    linker.func_wrap(
        module,
        "environ_sizes_get",
        |caller: Caller<'_, VmState>, count_at: u32, size_at: u32| {
            errno(caller, |guest| {
                let lines = environment(guest);
                let size = lines.iter().map(Vec::len).sum::<usize>();
                sizes(guest, lines.len(), size, count_at, size_at)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "environ_get",
        |caller: Caller<'_, VmState>, mut pointer_at: u32, mut text_at: u32| {
            errno(caller, |guest| {
                for line in environment(guest) {
                    guest.write_u32(pointer_at, text_at)?;
                    guest.write(text_at, &line)?;
                    pointer_at = pointer_at.saturating_add(4);
                    text_at = text_at.saturating_add(line.len() as u32);
                }
                Ok(SUCCESS)
            })
        },
    )?;
    link_numbers(linker, module)
}

/// Clocks and random bytes.
fn link_numbers(linker: &mut Linker<VmState>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "clock_time_get",
        |caller: Caller<'_, VmState>, clock: u32, _: u64, at: u32| {
            errno(caller, |guest| {
                let shared = &guest.state().shared;
                let now = match clock {
                    0 => shared.now(),
                    1 => shared.elapsed.get(),
                    _ => return Ok(NOT_SUPPORTED),
                };
                guest.write_u64(at, now)?;
                Ok(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(module, "clock_res_get", |caller: Caller<'_, VmState>, clock: u32, at: u32| {
        errno(caller, |guest| {
            if clock > 1 {
                return Ok(NOT_SUPPORTED);
            }
            guest.write_u64(at, 1)?;
            Ok(SUCCESS)
        })
    })?;
    linker.func_wrap(module, "random_get", |caller: Caller<'_, VmState>, at: u32, length: u32| {
        errno(caller, |guest| {
            if length > MOST_RANDOM {
                return Ok(INVALID);
            }
            let bytes: Vec<u8> = (0..length).map(|_| random(guest.state_mut())).collect();
            guest.write(at, &bytes)?;
            Ok(SUCCESS)
        })
    })?;
    Ok(())
}

fn errno(
    caller: Caller<'_, VmState>,
    call: impl FnOnce(&mut Guest<'_>) -> Answer<u32>,
) -> wasmtime::Result<u32> {
    match call(&mut Guest::new(caller)) {
        Ok(number) => Ok(number),
        Err(Fault::Status(_)) => Ok(FAULT),
        Err(Fault::Trap(error)) => Err(error),
    }
}

fn sizes(guest: &mut Guest<'_>, count: usize, size: usize, count_at: u32, size_at: u32) -> Answer<u32> {
    guest.write_u32(count_at, count as u32)?;
    guest.write_u32(size_at, size as u32)?;
    Ok(SUCCESS)
}

/// `NAME=VALUE` and a NUL, each.
fn environment(guest: &Guest<'_>) -> Vec<Vec<u8>> {
    let variables = guest.state().spec.environment.iter();
    variables.map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
}

/// Logs first, as Envoy does: where the count can't be written, the line is there all the same.
fn write(guest: &mut Guest<'_>, file: u32, parts: u32, count: u32, written_at: u32) -> Answer<u32> {
    let level = match file {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Ok(BAD_FILE),
    };
    let mut bytes = Vec::new();
    for part in 0..count {
        let at = parts.saturating_add(part.saturating_mul(8));
        let (start, length) = (guest.read_u32(at)?, guest.read_u32(at.saturating_add(4))?);
        // An empty part may point anywhere.
        if length > 0 {
            bytes.extend(guest.read(start, length)?);
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    if !text.is_empty() {
        log(guest.state_mut(), level, text.strip_suffix('\n').unwrap_or(&text).to_string());
    }
    guest.write_u32(written_at, bytes.len() as u32)?;
    Ok(SUCCESS)
}

/// The same bytes in every run (xorshift64*): a test that fails must fail again.
fn random(state: &mut VmState) -> u8 {
    let mut x = state.random | 1 << 63;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    state.random = x;
    (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
}
