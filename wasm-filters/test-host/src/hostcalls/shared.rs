//! Shared data and shared queues.

use wasmtime::{Caller, Linker};

use super::{ENV, answer};
use crate::abi::Status;
use crate::vm::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_shared_data",
        |caller: Caller<'_, VmState>,
         key: u32,
         key_length: u32,
         value_at: u32,
         length_at: u32,
         cas_at: u32| {
            answer(caller, "proxy_get_shared_data", |guest| {
                let key = guest.read(key, key_length)?;
                let state = guest.state();
                let found = state.shared.data.borrow().get(&state.spec.vm_id, &key);
                let (value, cas) = found.ok_or(Status::NotFound)?;
                guest.give(&value, value_at, length_at)?;
                guest.write_u32(cas_at, cas)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_shared_data",
        |caller: Caller<'_, VmState>, key: u32, key_length: u32, value: u32, value_length: u32, cas: u32| {
            answer(caller, "proxy_set_shared_data", |guest| {
                let (key, value) = (guest.read(key, key_length)?, guest.read(value, value_length)?);
                let state = guest.state();
                Ok(state.shared.data.borrow_mut().set(&state.spec.vm_id, &key, value, cas)?)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_register_shared_queue",
        |caller: Caller<'_, VmState>, name: u32, name_length: u32, token_at: u32| {
            answer(caller, "proxy_register_shared_queue", |guest| {
                let name = guest.read(name, name_length)?;
                let state = guest.state();
                let token = state.shared.queues.borrow_mut().register(&state.spec.vm_id, &name, state.serial);
                guest.write_u32(token_at, token)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_resolve_shared_queue",
        |caller: Caller<'_, VmState>, vm: u32, vm_length: u32, name: u32, name_length: u32, token_at: u32| {
            answer(caller, "proxy_resolve_shared_queue", |guest| {
                let (vm, name) = (guest.read_text(vm, vm_length)?, guest.read(name, name_length)?);
                let state = guest.state();
                let vm = if vm.is_empty() { state.spec.vm_id.clone() } else { vm };
                let token = state.shared.queues.borrow().resolve(&vm, &name).ok_or(Status::NotFound)?;
                guest.write_u32(token_at, token)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_enqueue_shared_queue",
        |caller: Caller<'_, VmState>, token: u32, at: u32, length: u32| {
            answer(caller, "proxy_enqueue_shared_queue", |guest| {
                let item = guest.read(at, length)?;
                Ok(guest.state().shared.queues.borrow_mut().push(token, item)?)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_dequeue_shared_queue",
        |caller: Caller<'_, VmState>, token: u32, item_at: u32, length_at: u32| {
            answer(caller, "proxy_dequeue_shared_queue", |guest| {
                let item = guest.state().shared.queues.borrow_mut().pop(token)?;
                guest.give(&item, item_at, length_at)
            })
        },
    )?;
    Ok(())
}
