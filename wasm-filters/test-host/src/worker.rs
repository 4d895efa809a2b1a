//! One worker thread's VM of a plugin, and where streams begin.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::connection::Connection;
use crate::error::Error;
use crate::headers::HeaderMap;
use crate::logs::{LogLine, VmName};
use crate::plugin::spec::{FailurePolicy, Spec};
use crate::request::RequestBuilder;
use crate::shared::Shared;
use crate::vm::Vm;
use crate::vm::connection::ConnectionState;

/// A worker. It outlives its VM, which a trap may end and a reload replace.
pub struct Worker {
    pub(crate) shared: Rc<Shared>,
    spec: Rc<Spec>,
    logs: Rc<RefCell<Vec<LogLine>>>,
    number: usize,
    vm: RefCell<Rc<RefCell<Vm>>>,
}

impl Worker {
    pub(crate) fn new(
        shared: Rc<Shared>,
        spec: Rc<Spec>,
        logs: Rc<RefCell<Vec<LogLine>>>,
        number: usize,
        vm: Rc<RefCell<Vm>>,
    ) -> Self {
        Self { shared, spec, logs, number, vm: RefCell::new(vm) }
    }

    /// Prepares a request. `:method`, `:path`, `:scheme` and `:authority` are added where they are missing.
    pub fn request(&self, headers: impl Into<HeaderMap>) -> RequestBuilder<'_> {
        RequestBuilder::new(self, headers.into())
    }

    /// A client connects to a network filter (`proxy_on_new_connection`).
    ///
    /// # Errors
    ///
    /// The module trapped.
    pub fn connect(&self) -> Result<Connection, Error> {
        self.connect_with([] as [(&[&str], &str); 0])
    }

    /// As [`Self::connect`], with properties that the filter can read, such as `["source", "address"]`.
    ///
    /// # Errors
    ///
    /// The module trapped.
    pub fn connect_with<'a>(
        &self,
        properties: impl IntoIterator<Item = (&'a [&'a str], impl AsRef<[u8]>)>,
    ) -> Result<Connection, Error> {
        let properties = properties.into_iter();
        let properties = properties.map(|(path, value)| (crate::path(path), value.as_ref().to_vec()));
        let state = ConnectionState { properties: properties.collect(), ..ConnectionState::default() };
        Connection::open(self.shared.clone(), self.vm_for_stream()?, state)
    }

    /// Calls the module's own function, as an extension of Envoy may (`proxy_on_foreign_function`).
    ///
    /// # Errors
    ///
    /// The module trapped.
    pub fn call_foreign_callback(&self, function: u32, arguments: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.shared.with(&self.vm(), |vm| {
            vm.foreign_callback(function, arguments.into());
            Ok(())
        })
    }

    /// Whether the VM runs.
    pub fn is_alive(&self) -> bool {
        self.vm().try_borrow().is_ok_and(|vm| vm.failed_at().is_none())
    }

    /// Entries into the VM (`proxy_on_…`) and host calls out of it by name, since the last time they were taken. What a
    /// filter costs in Envoy is mostly these: some 0.3 µs an entry, and 0.1 to 1 µs a call.
    pub fn take_calls(&self) -> BTreeMap<&'static str, u64> {
        let vm = self.vm();
        vm.try_borrow_mut().map(|mut vm| std::mem::take(&mut vm.state_mut().calls)).unwrap_or_default()
    }

    /// Bytes of the VM's linear memory, which never shrinks: the most that it has needed so far.
    pub fn memory_bytes(&self) -> usize {
        self.vm().try_borrow().map_or(0, |vm| vm.memory_bytes())
    }

    pub(crate) fn vm(&self) -> Rc<RefCell<Vm>> {
        self.vm.borrow().clone()
    }

    /// The VM for a new stream: under [`FailurePolicy::FailReload`] a new one, once the dead one is dead long enough.
    pub(crate) fn vm_for_stream(&self) -> Result<Rc<RefCell<Vm>>, Error> {
        let vm = self.vm();
        let failed_at = vm.try_borrow().map_err(|_| Error::Busy)?.failed_at();
        let Some(failed_at) = failed_at else { return Ok(vm) };
        let backoff = u64::try_from(self.spec.reload_backoff.as_nanos()).unwrap_or(u64::MAX);
        let waited = self.shared.elapsed.get() >= failed_at.saturating_add(backoff);
        if self.spec.failure_policy != FailurePolicy::FailReload || !waited {
            return Ok(vm);
        }
        let vm = Vm::start(&self.shared, &self.spec, &self.logs, VmName::Worker(self.number))?;
        self.vm.replace(vm.clone());
        Ok(vm)
    }
}
