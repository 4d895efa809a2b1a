//! A plugin that runs: its VMs, and what a test can see of them from outside of a stream.

use std::cell::RefCell;
use std::rc::Rc;

use crate::callout::{Callout, GrpcCallout};
use crate::error::{Error, Trap};
use crate::logs::{LogLine, Logs, VmName};
use crate::shared::Shared;
use crate::vm::Vm;
use crate::worker::Worker;

mod builder;
pub(crate) mod spec;

pub use builder::PluginBuilder;
use spec::Spec;

/// One plugin with its main VM and its workers.
pub struct Plugin {
    pub(crate) shared: Rc<Shared>,
    pub(crate) spec: Rc<Spec>,
    pub(crate) logs: Rc<RefCell<Vec<LogLine>>>,
    main: Rc<RefCell<Vm>>,
    workers: Vec<Worker>,
}

impl Plugin {
    fn start(shared: Rc<Shared>, spec: Rc<Spec>, workers: usize) -> Result<Self, Error> {
        let logs = Rc::new(RefCell::new(Vec::new()));
        // Envoy tries the configuration in a VM of its own first, and throws that away.
        drop(Vm::start(&shared, &spec, &logs, VmName::Canary)?);
        let main = Vm::start(&shared, &spec, &logs, VmName::Main)?;
        let workers = (0..workers).map(|number| {
            let vm = Vm::start(&shared, &spec, &logs, VmName::Worker(number))?;
            Ok(Worker::new(shared.clone(), spec.clone(), logs.clone(), number, vm))
        });
        let workers = workers.collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { shared, spec, logs, main, workers })
    }

    /// The worker at `number`, counted from 0 and around: there is always one.
    pub fn worker(&self, number: usize) -> &Worker {
        // `start` makes at least one.
        &self.workers[number % self.workers.len()]
    }

    /// All workers.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Everything logged so far, from all VMs in the order it happened.
    pub fn logs(&self) -> Logs {
        Logs(self.logs.borrow().clone())
    }

    /// The same, and forgets it.
    pub fn take_logs(&self) -> Logs {
        Logs(std::mem::take(&mut *self.logs.borrow_mut()))
    }

    /// Every trap so far, also those in callbacks whose result nobody waited for.
    pub fn traps(&self) -> Vec<Trap> {
        self.spec.traps.borrow().clone()
    }

    /// HTTP callouts that wait for an answer, oldest first, main VM first.
    pub fn callouts(&self) -> Vec<Callout> {
        self.vms().flat_map(|vm| Callout::pending(&self.shared, &vm, None)).collect()
    }

    /// gRPC calls and streams that are open.
    pub fn grpc_callouts(&self) -> Vec<GrpcCallout> {
        self.vms().flat_map(|vm| GrpcCallout::pending(&self.shared, &vm, None)).collect()
    }

    /// Takes the root contexts down, as Envoy does when a listener goes: `proxy_on_done`, then `proxy_on_delete`
    /// unless the module asks for time until `proxy_done`.
    ///
    /// # Errors
    ///
    /// The first trap.
    pub fn shut_down(&self) -> Result<(), Error> {
        let mut result = Ok(());
        for vm in self.vms() {
            result = result.and(self.shared.with(&vm, |vm| {
                vm.shut_down();
                Ok(())
            }));
        }
        result
    }

    fn vms(&self) -> impl Iterator<Item = Rc<RefCell<Vm>>> {
        std::iter::once(self.main.clone()).chain(self.workers.iter().map(Worker::vm))
    }
}
