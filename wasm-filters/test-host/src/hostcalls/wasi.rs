//! The part of `wasi_snapshot_preview1` that Envoy gives: standard output as log lines, an empty environment, the
//! clock, random bytes, and no files.

use wasmtime::{Caller, Linker};

use super::system::log;
use super::{Answer, Fault, Guest};
use crate::abi::LogLevel;
use crate::vm::state::VmState;

const WASI: &str = "wasi_snapshot_preview1";

/// WASI's error numbers.
const SUCCESS: u32 = 0;
const BAD_FILE: u32 = 8;
const FAULT: u32 = 21;
const NO_SYSTEM_CALL: u32 = 52;
const NOT_SUPPORTED: u32 = 58;

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        WASI,
        "fd_write",
        |caller: Caller<'_, VmState>, file: u32, parts: u32, count: u32, written_at: u32| {
            errno(caller, |guest| write(guest, file, parts, count, written_at))
        },
    )?;
    linker.func_wrap(WASI, "fd_read", |_: u32, _: u32, _: u32, _: u32| NO_SYSTEM_CALL)?;
    linker.func_wrap(WASI, "fd_seek", |_: u32, _: i64, _: u32, _: u32| SUCCESS)?;
    linker.func_wrap(WASI, "fd_close", |_: u32| SUCCESS)?;
    linker.func_wrap(WASI, "fd_fdstat_get", |caller: Caller<'_, VmState>, file: u32, at: u32| {
        errno(caller, |guest| {
            if file != 1 && file != 2 {
                return Ok(BAD_FILE);
            }
            // A character device that can be written to.
            let mut stat = [0; 24];
            stat[8] = 64;
            guest.write(at, &stat)?;
            Ok(SUCCESS)
        })
    })?;
    for (sizes, get) in [("environ_sizes_get", "environ_get"), ("args_sizes_get", "args_get")] {
        linker.func_wrap(WASI, sizes, |caller: Caller<'_, VmState>, count_at: u32, size_at: u32| {
            errno(caller, |guest| {
                guest.write_u32(count_at, 0)?;
                guest.write_u32(size_at, 0)?;
                Ok(SUCCESS)
            })
        })?;
        linker.func_wrap(WASI, get, |_: u32, _: u32| SUCCESS)?;
    }
    linker.func_wrap(
        WASI,
        "clock_time_get",
        |caller: Caller<'_, VmState>, clock: u32, _: u64, at: u32| {
            errno(caller, |guest| {
                if clock > 1 {
                    return Ok(NOT_SUPPORTED);
                }
                let now = guest.state().shared.now.get();
                guest.write_u64(at, now)?;
                Ok(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(WASI, "random_get", |caller: Caller<'_, VmState>, at: u32, length: u32| {
        errno(caller, |guest| {
            // Checked first: a module may ask for more than there is.
            guest.read(at, length)?;
            let bytes: Vec<u8> = (0..length).map(|_| random(guest.state_mut())).collect();
            guest.write(at, &bytes)?;
            Ok(SUCCESS)
        })
    })?;
    linker.func_wrap(WASI, "sched_yield", || SUCCESS)?;
    linker.func_wrap(WASI, "proc_exit", |code: u32| -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg(format!("the module exited with code {code}")))
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
        bytes.extend(guest.read(start, length)?);
    }
    guest.write_u32(written_at, bytes.len() as u32)?;
    let text = String::from_utf8_lossy(&bytes);
    if !text.is_empty() {
        log(guest.state_mut(), level, text.strip_suffix('\n').unwrap_or(&text).to_string());
    }
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
