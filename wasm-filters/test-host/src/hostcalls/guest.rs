//! The module's memory as a host function sees it: every access checked, results put where the module allocates.

use wasmtime::{AsContextMut as _, Caller, Extern, Memory};

use super::{Answer, Fault};
use crate::abi::Status;
use crate::headers::HeaderMap;
use crate::pairs;
use crate::vm::exports::ALLOCATORS;
use crate::vm::state::VmState;

pub(super) struct Guest<'a> {
    caller: Caller<'a, VmState>,
}

impl<'a> Guest<'a> {
    pub fn new(caller: Caller<'a, VmState>) -> Self {
        Self { caller }
    }

    pub fn state(&self) -> &VmState {
        self.caller.data()
    }

    pub fn state_mut(&mut self) -> &mut VmState {
        self.caller.data_mut()
    }

    fn memory(&mut self) -> Answer<Memory> {
        let memory = self.caller.get_export("memory").and_then(Extern::into_memory);
        memory.ok_or(Fault::Status(Status::InvalidMemoryAccess))
    }

    /// Bytes at `pointer`.
    pub fn read(&mut self, pointer: u32, length: u32) -> Answer<Vec<u8>> {
        let memory = self.memory()?;
        let start = pointer as usize;
        let bytes = memory.data(&self.caller).get(start..start.saturating_add(length as usize));
        Ok(bytes.ok_or(Status::InvalidMemoryAccess)?.to_vec())
    }

    /// Text at `pointer`, where the ABI says text; other bytes are replaced.
    pub fn read_text(&mut self, pointer: u32, length: u32) -> Answer<String> {
        Ok(String::from_utf8_lossy(&self.read(pointer, length)?).into_owned())
    }

    /// A header map at `pointer`.
    pub fn read_pairs(&mut self, pointer: u32, length: u32) -> Answer<HeaderMap> {
        Ok(pairs::decode(&self.read(pointer, length)?))
    }

    pub fn read_u32(&mut self, pointer: u32) -> Answer<u32> {
        let bytes = self.read(pointer, 4)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }

    pub fn write(&mut self, pointer: u32, bytes: &[u8]) -> Answer {
        let memory = self.memory()?;
        let written = memory.write(&mut self.caller, pointer as usize, bytes);
        written.map_err(|_| Fault::Status(Status::InvalidMemoryAccess))
    }

    pub fn write_u32(&mut self, pointer: u32, value: u32) -> Answer {
        self.write(pointer, &value.to_le_bytes())
    }

    pub fn write_u64(&mut self, pointer: u32, value: u64) -> Answer {
        self.write(pointer, &value.to_le_bytes())
    }

    /// Gives bytes to the module: asks it for memory, and writes address and length where it wants them.
    pub fn give(&mut self, bytes: &[u8], pointer_at: u32, length_at: u32) -> Answer {
        let address = self.place(bytes)?;
        self.write_u32(pointer_at, address)?;
        self.write_u32(length_at, bytes.len() as u32)
    }

    /// Puts bytes into memory of the module's own; no bytes need no place.
    pub fn place(&mut self, bytes: &[u8]) -> Answer<u32> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let length = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
        let allocator = ALLOCATORS.iter().find_map(|name| self.caller.get_export(name)?.into_func());
        let allocator = allocator.ok_or(Status::InvalidMemoryAccess)?;
        let allocator = allocator
            .typed::<u32, u32>(&self.caller)
            .map_err(|_| Fault::Status(Status::InvalidMemoryAccess))?;
        self.caller.data_mut().count("proxy_on_memory_allocate");
        let address = allocator.call(self.caller.as_context_mut(), length)?;
        if address == 0 {
            return Err(Status::InvalidMemoryAccess.into());
        }
        self.write(address, bytes)?;
        Ok(address)
    }
}
