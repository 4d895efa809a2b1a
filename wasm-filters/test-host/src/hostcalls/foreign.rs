//! Functions that modules call by name: Envoy's `verify_signature` and `clear_route_cache`, and the test's own.

use wasmtime::{Caller, Linker};

use super::{ENV, answer, streams};
use crate::abi::Status;
use crate::foreign::verify_signature;
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
                let result = call(guest.state_mut(), &name, &argument)?;
                let address = guest.place(&result)?;
                // The caller may want neither.
                if result_at != 0 {
                    guest.write_u32(result_at, address)?;
                }
                if length_at != 0 {
                    guest.write_u32(length_at, result.len() as u32)?;
                }
                Ok(())
            })
        },
    )?;
    Ok(())
}

fn call(state: &mut VmState, name: &str, argument: &[u8]) -> Result<Vec<u8>, Status> {
    let own = state.shared.foreign.borrow().get(name).cloned();
    match (own, name) {
        (Some(own), _) => own(argument),
        (None, "verify_signature") => verify_signature::call(argument),
        (None, "clear_route_cache") => {
            streams::clear_route_cache(state);
            Ok(Vec::new())
        }
        _ => Err(Status::NotFound),
    }
}
