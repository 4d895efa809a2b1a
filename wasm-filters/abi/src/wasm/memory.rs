//! Memory that the host fills: it asks for a place, writes there, and says where and how much.

use std::mem::ManuallyDrop;
use std::ptr::null_mut;

/// Memory of the module's for the host to write `size` bytes to. What is never taken leaks.
pub fn allocate(size: usize) -> *mut u8 {
    ManuallyDrop::new(Vec::<u8>::with_capacity(size)).as_mut_ptr()
}

/// Where a host call leaves its result.
pub(crate) struct Slot {
    data: *mut u8,
    size: usize,
}

impl Slot {
    pub fn new() -> Self {
        Self { data: null_mut(), size: 0 }
    }

    pub fn data(&mut self) -> *mut *mut u8 {
        &raw mut self.data
    }

    pub fn size(&mut self) -> *mut usize {
        &raw mut self.size
    }

    /// The bytes that the host wrote; empty where it wrote none.
    pub fn take(self) -> Vec<u8> {
        if self.data.is_null() {
            return Vec::new();
        }
        // SAFETY: `data` is from `allocate`, which the host asked for `size` bytes and filled them; nobody else has it.
        unsafe { Vec::from_raw_parts(self.data, self.size, self.size) }
    }
}
