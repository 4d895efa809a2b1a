//! Functions that modules call by name: Envoy's, and the test's own, which come first.

use wasmtime::{Caller, Linker};

use super::{ENV, answer};
use crate::abi::Status;
use crate::foreign::{compression, filter_state, sign, verify_signature};
use crate::vm::state::VmState;

pub(super) fn link(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_call_foreign_function",
        |caller: Caller<'_, VmState>,
         name: u32,
         name_length: u32,
         argument: u32,
         argument_length: u32,
         result_at: u32,
         length_at: u32| {
            answer(caller, "proxy_call_foreign_function", |guest| {
                let name = guest.read_text(name, name_length)?;
                let argument = guest.read(argument, argument_length)?;
                let result = call(guest.state_mut(), &name, &argument).ok_or(Status::NotFound)?;
                // Address and length are written where it failed, too.
                let (status, result) = match result {
                    Ok(result) => (Ok(()), result),
                    Err(status) => (Err(status), Vec::new()),
                };
                let address = guest.place(&result)?;
                // The caller may want neither.
                if result_at != 0 {
                    guest.write_u32(result_at, address)?;
                }
                if length_at != 0 {
                    guest.write_u32(length_at, result.len() as u32)?;
                }
                Ok(status?)
            })
        },
    )?;
    Ok(())
}

/// What the function answers; `None` where there is none by that name.
fn call(state: &mut VmState, name: &str, argument: &[u8]) -> Option<Result<Vec<u8>, Status>> {
    let own = state.shared.foreign.borrow().get(name).cloned();
    if let Some(own) = own {
        return Some(own(argument));
    }
    Some(match name {
        "verify_signature" => verify_signature::call(argument),
        "sign" => sign::call(argument),
        "compress" => compression::compress(argument),
        "uncompress" => compression::uncompress(argument, state.shared.memory.get()),
        "declare_property" => filter_state::declare_property(state, argument).map(|()| Vec::new()),
        "set_envoy_filter_state" => filter_state::set(state, argument).map(|()| Vec::new()),
        "clear_route_cache" => {
            // Counted only: this host has no routes.
            if let Some(stream) = state.stream() {
                stream.route_cache_clears += 1;
            }
            Ok(Vec::new())
        }
        // A filter's test stops here, instead of seeing an expression fail that Envoy takes.
        "expr_create" | "expr_evaluate" | "expr_delete" => Err(Status::Unimplemented),
        _ => return None,
    })
}
