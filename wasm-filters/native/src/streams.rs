//! The streams of a worker: Envoy's handles of them, which of them wait, and the calls that end with them.

use std::collections::BTreeMap;

use crate::ffi::{self, Handle};

/// What numbers of streams have, and those of configurations have not.
const BIT: u32 = 1 << 31;

struct Stream {
    envoy: Handle,
    root: u32,
}

/// The streams of a worker.
#[derive(Default)]
pub struct Streams {
    all: BTreeMap<u32, Stream>,
    /// The schedulers of those that wait.
    waiting: BTreeMap<u32, Handle>,
    /// Calls under way, by stream and Envoy's number, with ours.
    calls: BTreeMap<(u32, u64), u32>,
    last: u32,
}

impl Streams {
    /// A number that none has.
    pub fn number(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            let number = self.last | BIT;
            // It is used by the time there are so many.
            if !self.all.contains_key(&number) {
                return number;
            }
        }
    }

    /// One began.
    pub fn add(&mut self, stream: u32, root: u32, envoy: Handle) {
        self.all.insert(stream, Stream { envoy, root });
    }

    /// Envoy's handle of one; `None` where it is gone.
    pub fn handle(&self, stream: u32) -> Option<Handle> {
        self.all.get(&stream).map(|stream| stream.envoy)
    }

    /// The configuration of one.
    pub fn root(&self, stream: u32) -> Option<u32> {
        self.all.get(&stream).map(|stream| stream.root)
    }

    /// One ended, and its calls.
    pub fn remove(&mut self, stream: u32) {
        self.all.remove(&stream);
        while let Some((call, _)) = self.calls.range((stream, 0)..=(stream, u64::MAX)).next() {
            let call = *call;
            self.calls.remove(&call);
        }
        self.stop_waiting(stream);
    }

    /// One waits from now on. On its thread.
    pub fn wait(&mut self, stream: u32) {
        if let Some(envoy) = self.handle(stream) {
            // SAFETY: the stream is there, on this thread.
            let scheduler = unsafe { ffi::envoy_dynamic_module_callback_http_filter_scheduler_new(envoy) };
            self.waiting.insert(stream, scheduler);
        }
    }

    /// One waits no more; whether it did.
    pub fn stop_waiting(&mut self, stream: u32) -> bool {
        let Some(scheduler) = self.waiting.remove(&stream) else { return false };
        // SAFETY: it was made by `wait`, and nobody has it any more.
        unsafe { ffi::envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler) };
        true
    }

    /// Those that wait.
    pub fn waiting(&self) -> impl Iterator<Item = u32> {
        self.waiting.keys().copied()
    }

    /// Has the worker's thread look into its inbox, if a stream waits there; whether one does. On any thread.
    pub fn schedule(&self) -> bool {
        let Some((_, scheduler)) = self.waiting.first_key_value() else { return false };
        // SAFETY: the scheduler is there for as long as the stream waits, and may be used on any thread.
        unsafe { ffi::envoy_dynamic_module_callback_http_filter_scheduler_commit(*scheduler, 0) };
        true
    }

    /// A call is under way.
    pub fn add_call(&mut self, stream: u32, id: u64, token: u32) {
        self.calls.insert((stream, id), token);
    }

    /// A call ended: its number here.
    pub fn take_call(&mut self, stream: u32, id: u64) -> Option<u32> {
        self.calls.remove(&(stream, id))
    }

    /// All calls are of no interest any more.
    pub fn forget_calls(&mut self) {
        self.calls.clear();
    }
}
