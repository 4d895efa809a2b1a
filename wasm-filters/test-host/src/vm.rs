//! One instance of a module: its memory, its contexts, and the one way into it.
//!
//! The order of stream callbacks is in [`run`], answers to callouts are in [`answer`]; here is starting, ticking
//! and falling over.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use wasmtime::{Memory, Store, TypedFunc, WasmBacktrace, WasmParams, WasmResults};

use crate::abi::Status;
use crate::error::{Error, Trap};
use crate::logs::{LogLine, Logs, VmName};
use crate::plugin::spec::Spec;
use crate::shared::Shared;

pub(crate) mod answer;
pub(crate) mod connection;
pub(crate) mod exports;
pub(crate) mod run;
pub(crate) mod state;
pub(crate) mod stream;

use exports::Exports;
use state::{Action, VmState};

pub(crate) struct Vm {
    store: Store<VmState>,
    exports: Exports,
    memory: Option<Memory>,
    /// When it trapped. It runs nothing any more.
    failed_at: Option<u64>,
    /// Streams on which something may go on.
    dirty: VecDeque<u32>,
    /// The first trap since somebody took it.
    trap: Option<Trap>,
}

impl Vm {
    /// Instantiates the module and takes it through `proxy_on_vm_start` and `proxy_on_configure`.
    pub fn start(
        shared: &Rc<Shared>,
        spec: &Rc<Spec>,
        logs: &Rc<RefCell<Vec<LogLine>>>,
        name: VmName,
    ) -> Result<Rc<RefCell<Self>>, Error> {
        let state = VmState::new(shared, spec, logs, name);
        let serial = state.serial;
        let mut store = Store::new(&spec.module.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_fuel(shared.fuel.get()).map_err(Error::Link)?;
        let instance = spec.linked.instantiate(&mut store).map_err(Error::Link)?;
        let exports = Exports::find(&instance, &mut store)?;
        let memory = instance.get_memory(&mut store, "memory");
        let mut vm = Self { store, exports, memory, failed_at: None, dirty: VecDeque::new(), trap: None };
        let started = vm.run_start();
        if let Some(trap) = vm.take_trap() {
            return Err(trap.into());
        }
        started?;
        let vm = Rc::new(RefCell::new(vm));
        shared.register(serial, &vm);
        Ok(vm)
    }

    fn run_start(&mut self) -> Result<(), Error> {
        self.store.data_mut().starting = true;
        if let Some((name, function)) = self.exports.entry.clone() {
            self.enter(name, 0, &function, ());
        }
        if let Some(function) = self.exports.main.clone() {
            self.enter("main", 0, &function, (0, 0));
        }
        if let Some(function) = self.exports.main_void.clone() {
            self.enter("__main_void", 0, &function, ());
        }
        self.store.data_mut().starting = false;
        let root = self.store.data_mut().new_context();
        self.store.data_mut().root = root;
        if let Some(function) = self.exports.on_context_create.clone() {
            self.enter("proxy_on_context_create", root, &function, (root, 0));
        }
        let spec = self.state().spec.clone();
        if let Some(function) = self.exports.on_vm_start.clone() {
            let size = spec.vm_configuration.len() as u32;
            let accepted = self.enter("proxy_on_vm_start", root, &function, (root, size));
            self.expect_accepted("proxy_on_vm_start", accepted)?;
        }
        if let Some(function) = self.exports.on_configure.clone() {
            self.store.data_mut().configuring = true;
            let size = spec.configuration.len() as u32;
            let accepted = self.enter("proxy_on_configure", root, &function, (root, size));
            self.store.data_mut().configuring = false;
            self.expect_accepted("proxy_on_configure", accepted)?;
        }
        self.drive();
        Ok(())
    }

    fn expect_accepted(&self, callback: &'static str, accepted: Option<u32>) -> Result<(), Error> {
        if accepted != Some(0) {
            return Ok(());
        }
        let state = self.state();
        let logs = Logs(state.logs.borrow().clone()).of(state.name);
        Err(Error::Refused { callback, vm: state.name, logs })
    }

    pub fn state(&self) -> &VmState {
        self.store.data()
    }

    pub fn state_mut(&mut self) -> &mut VmState {
        self.store.data_mut()
    }

    pub fn memory_bytes(&self) -> usize {
        self.memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    pub fn failed_at(&self) -> Option<u64> {
        self.failed_at
    }

    pub fn take_trap(&mut self) -> Option<Trap> {
        self.trap.take()
    }

    /// Says what became of the stream that was being sent when the VM fell over.
    pub fn set_trap_outcome(&mut self, context: u32) {
        let outcome = self.state().streams.get(&context).map(|stream| {
            if stream.response.started && stream.local.is_none() {
                stream.response_outcome()
            } else {
                stream.request_outcome()
            }
        });
        if let Some(trap) = &mut self.trap {
            trap.outcome = outcome;
        }
    }

    /// Calls into the module; `None` when it is dead or dies of it.
    fn enter<P: WasmParams, R: WasmResults>(
        &mut self,
        callback: &'static str,
        context: u32,
        function: &TypedFunc<P, R>,
        params: P,
    ) -> Option<R> {
        if self.failed_at.is_some() {
            return None;
        }
        let state = self.store.data_mut();
        state.current = context;
        state.effective = 0;
        state.count(callback);
        let fuel = state.shared.fuel.get();
        let logged = state.logs.borrow().len();
        let result = match self.store.set_fuel(fuel) {
            Ok(()) => function.call(&mut self.store, params),
            Err(error) => Err(error),
        };
        let result = match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(callback, logged, &error);
                None
            }
        };
        self.after_callback();
        result
    }

    fn fail(&mut self, callback: &'static str, logged: usize, error: &wasmtime::Error) {
        let state = self.store.data();
        self.failed_at = Some(state.shared.elapsed.get());
        let cause = error.downcast_ref::<wasmtime::Trap>();
        // Without the backtrace, which is a field of its own.
        let reason = || error.chain().skip(usize::from(error.is::<WasmBacktrace>())).map(ToString::to_string);
        let trap = Trap {
            vm: state.name,
            callback,
            reason: cause.map_or_else(|| reason().collect::<Vec<_>>().join(": "), ToString::to_string),
            backtrace: error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default(),
            out_of_fuel: cause == Some(&wasmtime::Trap::OutOfFuel),
            out_of_memory: state.memory.refused.is_some(),
            logs: Logs(state.logs.borrow().iter().skip(logged).cloned().collect()),
            outcome: None,
        };
        state.spec.traps.borrow_mut().push(trap.clone());
        self.trap.get_or_insert(trap);
    }

    /// Does what the callback asked for. Envoy does it after a trap, too.
    fn after_callback(&mut self) {
        let state = self.store.data_mut();
        for action in std::mem::take(&mut state.actions) {
            match action {
                Action::Continue(context, direction) => {
                    if let Some(stream) = state.streams.get_mut(&context) {
                        stream.half(direction).resume = true;
                        self.dirty.push_back(context);
                    }
                }
                Action::Reset(context) => {
                    if let Some(stream) = state.streams.get_mut(&context) {
                        stream.reset = true;
                    }
                }
                Action::ContinueReading(context) => {
                    if let Some(connection) = state.connections.get_mut(&context) {
                        connection.resume();
                    }
                }
                Action::CloseConnection(context) => {
                    if let Some(connection) = state.connections.get_mut(&context) {
                        connection.close_wanted = true;
                    }
                }
                Action::Reply(context, reply) => {
                    if let Some(stream) = state.streams.get_mut(&context) {
                        stream.pending_reply.get_or_insert(reply);
                        self.dirty.push_back(context);
                    }
                }
            }
        }
    }

    /// Time of the next tick or timeout.
    pub fn next_due(&self) -> Option<u64> {
        if self.failed_at.is_some() {
            return None;
        }
        let state = self.state();
        let calls = state.http_calls.values().filter_map(|call| call.deadline);
        let grpc = state.grpc_calls.values().filter_map(|call| call.deadline);
        calls.chain(grpc).chain(state.tick.map(|tick| tick.next)).min()
    }

    /// Fires what is due now: timeouts first, as their timers are older than a tick that was set again.
    pub fn fire_due(&mut self) {
        let now = self.state().shared.elapsed.get();
        self.expire_callouts(now);
        let root = self.state().root;
        let Some(tick) = self.state().tick.filter(|tick| tick.next <= now) else { return };
        // The callback may set another period, so the timer is moved first.
        self.state_mut().tick = Some(state::Tick { next: now.saturating_add(tick.period), ..tick });
        if let Some(function) = self.exports.on_tick.clone() {
            self.enter("proxy_on_tick", root, &function, root);
        }
    }

    /// Calls the module's own function (`proxy_on_foreign_function`), which reads `arguments` meanwhile.
    pub fn foreign_callback(&mut self, function: u32, arguments: Vec<u8>) {
        let root = self.state().root;
        let size = arguments.len() as u32;
        self.state_mut().received.arguments = arguments;
        if let Some(callback) = self.exports.on_foreign_function.clone() {
            self.enter("proxy_on_foreign_function", root, &callback, (root, function, size));
        }
        self.state_mut().received = Default::default();
    }

    pub fn queue_ready(&mut self, token: u32) {
        let root = self.state().root;
        if let Some(function) = self.exports.on_queue_ready.clone() {
            self.enter("proxy_on_queue_ready", root, &function, (root, token));
        }
    }

    /// Takes the root context down; a module that says it is not done keeps it until `proxy_done`.
    pub fn shut_down(&mut self) {
        let root = self.state().root;
        if self.state().root_done {
            return;
        }
        if let Some(function) = self.exports.on_done.clone()
            && self.enter("proxy_on_done", root, &function, root) == Some(0)
        {
            self.state_mut().root_pending = true;
            return;
        }
        self.delete_root();
    }

    /// Deletes the root context when it is done.
    fn delete_root(&mut self) {
        let root = self.state().root;
        let state = self.state_mut();
        state.root_done = true;
        state.root_pending = false;
        state.tick = None;
        if let Some(function) = self.exports.on_delete.clone() {
            self.enter("proxy_on_delete", root, &function, root);
        }
    }

    /// Runs every stream on until nothing moves.
    pub fn drive(&mut self) {
        while let Some(context) = self.dirty.pop_front() {
            self.run_stream(context);
        }
        if self.state().root_done && self.state().root_pending {
            self.delete_root();
        }
    }
}

/// The functions on the module's stack, innermost first. Release builds strip their names.
fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let name = |frame: &wasmtime::FrameInfo| {
        let number = || format!("function {}", frame.func_index());
        frame.func_name().map_or_else(number, ToString::to_string)
    };
    backtrace.frames().iter().map(name).collect()
}

/// What `proxy_done` does: only a root that said it was not done can be done now.
pub(crate) fn root_is_done(state: &mut VmState) -> Result<(), Status> {
    if !state.root_pending {
        return Err(Status::NotFound);
    }
    state.root_done = true;
    Ok(())
}
