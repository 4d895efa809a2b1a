//! Metrics. They belong to the host: every VM that defines a name gets the same one, which is what makes them
//! atomics across workers.

use wasmtime::{Caller, Linker};

use super::{ENV, answer};
use crate::abi::{MetricKind, Status};
use crate::shared::Metric;
use crate::vm::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_define_metric",
        |caller: Caller<'_, VmState>, kind: u32, name: u32, name_length: u32, id_at: u32| {
            answer(caller, "proxy_define_metric", |guest| {
                let name = guest.read_text(name, name_length)?;
                let kind = MetricKind::from_abi(kind).ok_or(Status::BadArgument)?;
                let state = guest.state_mut();
                let id = state.tokens.metric(kind);
                state.metrics.insert(id, (kind, name.clone()));
                state.shared.metrics.borrow_mut().entry((kind, name)).or_default();
                guest.write_u32(id_at, id)
            })
        },
    )?;
    linker.func_wrap(ENV, "proxy_get_metric", |caller: Caller<'_, VmState>, id: u32, value_at: u32| {
        answer(caller, "proxy_get_metric", |guest| {
            only_numbers(id)?;
            let value = update(guest.state_mut(), id, |_, metric| Ok(metric.value))?;
            guest.write_u64(value_at, value)
        })
    })?;
    linker.func_wrap(ENV, "proxy_record_metric", |caller: Caller<'_, VmState>, id: u32, value: u64| {
        answer(caller, "proxy_record_metric", |guest| {
            Ok(update(guest.state_mut(), id, |kind, metric| {
                match kind {
                    MetricKind::Counter => metric.value = metric.value.wrapping_add(value),
                    MetricKind::Gauge => metric.value = value,
                    MetricKind::Histogram => metric.samples.push(value),
                }
                Ok(())
            })?)
        })
    })?;
    linker.func_wrap(
        ENV,
        "proxy_increment_metric",
        |caller: Caller<'_, VmState>, id: u32, offset: i64| {
            answer(caller, "proxy_increment_metric", |guest| {
                only_numbers(id)?;
                Ok(update(guest.state_mut(), id, |kind, metric| {
                    // Adding nothing to a counter is refused, too: Envoy asks for more than zero.
                    if kind == MetricKind::Counter && offset <= 0 {
                        return Err(Status::BadArgument);
                    }
                    metric.value = metric.value.wrapping_add_signed(offset);
                    Ok(())
                })?)
            })
        },
    )?;
    Ok(())
}

/// Refuses what cannot be read or added to, known or not: a number's two low bits say the kind.
fn only_numbers(id: u32) -> Result<(), Status> {
    match MetricKind::from_abi(id & 3) {
        Some(MetricKind::Counter | MetricKind::Gauge) => Ok(()),
        Some(MetricKind::Histogram) | None => Err(Status::BadArgument),
    }
}

/// Finds a metric by this VM's number for it.
fn update<T>(
    state: &mut VmState,
    id: u32,
    change: impl FnOnce(MetricKind, &mut Metric) -> Result<T, Status>,
) -> Result<T, Status> {
    let (kind, name) = state.metrics.get(&id).ok_or(Status::NotFound)?.clone();
    let mut metrics = state.shared.metrics.borrow_mut();
    change(kind, metrics.entry((kind, name)).or_default())
}
