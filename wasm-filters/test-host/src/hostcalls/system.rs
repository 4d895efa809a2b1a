//! Logging, time, ticks and contexts.

use wasmtime::{Caller, Linker};

use super::{Answer, ENV, Guest, answer};
use crate::abi::{LogLevel, Status};
use crate::logs::LogLine;
use crate::vm::root_is_done;
use crate::vm::state::{Tick, VmState};

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "proxy_log", |caller: Caller<'_, VmState>, level: u32, at: u32, length: u32| {
        answer(caller, "proxy_log", |guest| {
            let level = LogLevel::from_abi(level).ok_or(Status::BadArgument)?;
            let text = guest.read_text(at, length)?;
            log(guest.state_mut(), level, text);
            Ok(())
        })
    })?;
    linker.func_wrap(ENV, "proxy_get_log_level", |caller: Caller<'_, VmState>, at: u32| {
        answer(caller, "proxy_get_log_level", |guest| {
            let level = guest.state().shared.log_level.get();
            guest.write_u32(at, level as u32)
        })
    })?;
    linker.func_wrap(ENV, "proxy_get_current_time_nanoseconds", |caller: Caller<'_, VmState>, at: u32| {
        answer(caller, "proxy_get_current_time_nanoseconds", |guest| {
            let now = guest.state().shared.now();
            guest.write_u64(at, now)
        })
    })?;
    linker.func_wrap(
        ENV,
        "proxy_set_tick_period_milliseconds",
        |caller: Caller<'_, VmState>, period: u32| {
            answer(caller, "proxy_set_tick_period_milliseconds", |guest| set_tick_period(guest, period))
        },
    )?;
    linker.func_wrap(ENV, "proxy_set_effective_context", |caller: Caller<'_, VmState>, context: u32| {
        answer(caller, "proxy_set_effective_context", |guest| {
            // 0 is the VM's own, and reads as none.
            if context != 0 && !guest.state().has_context(context) {
                return Err(Status::BadArgument.into());
            }
            guest.state_mut().effective = context;
            Ok(())
        })
    })?;
    linker.func_wrap(ENV, "proxy_done", |caller: Caller<'_, VmState>| {
        answer(caller, "proxy_done", |guest| Ok(root_is_done(guest.state_mut())?))
    })?;
    linker.func_wrap(
        ENV,
        "proxy_get_status",
        |caller: Caller<'_, VmState>, code_at: u32, text_at: u32, length_at: u32| {
            answer(caller, "proxy_get_status", |guest| {
                let (code, message) = guest.state().received.status.clone();
                guest.write_u32(code_at, code)?;
                guest.give(message.as_bytes(), text_at, length_at)
            })
        },
    )?;
    Ok(())
}

/// Keeps a line, from `proxy_log` or from the module's standard output.
pub(super) fn log(state: &mut VmState, level: LogLevel, text: String) {
    let line = LogLine { level, vm: state.name, text };
    state.logs.borrow_mut().push(line);
}

fn set_tick_period(guest: &mut Guest<'_>, milliseconds: u32) -> Answer {
    let period = u64::from(milliseconds) * 1_000_000;
    let now = guest.state().shared.elapsed.get();
    guest.state_mut().tick = (period > 0).then(|| Tick { period, next: now.saturating_add(period) });
    Ok(())
}
