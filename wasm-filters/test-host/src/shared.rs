//! What all VMs of a host share, as all threads of one Envoy do: time, clusters, shared data, queues, metrics.
//!
//! A host is one thread on purpose: which worker comes first is then the test's decision, every time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::{Rc, Weak};

use crate::abi::{LogLevel, MetricKind, Status};
use crate::error::Error;
use crate::vm::Vm;

/// A function of the host that modules call by name.
pub(crate) type Foreign = Rc<dyn Fn(&[u8]) -> Result<Vec<u8>, Status>>;

pub(crate) struct Shared {
    /// Nanoseconds that passed since the host was made: what timers go by.
    pub elapsed: Cell<u64>,
    /// The wall clock's lead over `elapsed`. Wrapping, so that a clock may be set to before the host was made.
    pub wall: Cell<u64>,
    pub log_level: Cell<LogLevel>,
    /// Instructions that one callback may run.
    pub fuel: Cell<u64>,
    /// Bytes that one VM's memory may have.
    pub memory: Cell<usize>,
    /// Known clusters, and whether they have a host to call.
    pub clusters: RefCell<BTreeMap<String, bool>>,
    pub data: RefCell<SharedData>,
    pub queues: RefCell<Queues>,
    /// How many plugins have each VM id.
    vm_ids: RefCell<BTreeMap<String, usize>>,
    pub metrics: RefCell<BTreeMap<(MetricKind, String), Metric>>,
    pub foreign: RefCell<HashMap<String, Foreign>>,
    vms: RefCell<Vec<(u64, Weak<RefCell<Vm>>)>>,
    serial: Cell<u64>,
}

impl Shared {
    pub fn new(now: u64) -> Self {
        Self {
            elapsed: Cell::new(0),
            wall: Cell::new(now),
            log_level: Cell::new(LogLevel::Trace),
            fuel: Cell::new(1_000_000_000),
            memory: Cell::new(1 << 30),
            clusters: RefCell::default(),
            data: RefCell::default(),
            queues: RefCell::default(),
            vm_ids: RefCell::default(),
            metrics: RefCell::default(),
            foreign: RefCell::default(),
            vms: RefCell::default(),
            serial: Cell::new(0),
        }
    }

    /// Nanoseconds since the epoch.
    pub fn now(&self) -> u64 {
        self.elapsed.get().wrapping_add(self.wall.get())
    }

    /// Sets the wall clock alone.
    pub fn set_now(&self, now: u64) {
        self.wall.set(now.wrapping_sub(self.elapsed.get()));
    }

    /// A number no other VM of this host has.
    pub fn next_serial(&self) -> u64 {
        self.serial.set(self.serial.get() + 1);
        self.serial.get()
    }

    /// A plugin with this VM id comes.
    pub fn hold(&self, vm_id: &str) {
        *self.vm_ids.borrow_mut().entry(vm_id.to_string()).or_default() += 1;
    }

    /// One goes. Envoy forgets the data and the queues of a VM id with the last.
    pub fn release(&self, vm_id: &str) {
        let mut vm_ids = self.vm_ids.borrow_mut();
        let left = vm_ids.get_mut(vm_id).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            vm_ids.remove(vm_id);
            self.data.borrow_mut().values.retain(|(have, _), _| have != vm_id);
            self.queues.borrow_mut().forget(vm_id);
        }
    }

    pub fn register(&self, serial: u64, vm: &Rc<RefCell<Vm>>) {
        let mut vms = self.vms.borrow_mut();
        vms.retain(|(_, vm)| vm.strong_count() > 0);
        vms.push((serial, Rc::downgrade(vm)));
    }

    /// Runs `call` in a VM, then everything that it set off: resumed streams there, queue callbacks anywhere.
    pub fn with<T>(
        &self,
        vm: &Rc<RefCell<Vm>>,
        call: impl FnOnce(&mut Vm) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let result = {
            let mut vm = vm.try_borrow_mut().map_err(|_| Error::Busy)?;
            let result = call(&mut vm);
            vm.drive();
            match vm.take_trap() {
                Some(trap) => Err(trap.into()),
                None => result,
            }
        };
        let settled = self.settle();
        let value = result?;
        settled.map(|()| value)
    }

    /// Tells the VMs whose queues got something, until nothing is left to tell.
    fn settle(&self) -> Result<(), Error> {
        let mut result = Ok(());
        loop {
            let Some((serial, token)) = self.queues.borrow_mut().ready.pop_front() else { return result };
            let vm =
                self.vms.borrow().iter().find(|(have, _)| *have == serial).and_then(|(_, vm)| vm.upgrade());
            let Some(vm) = vm else { continue };
            let Ok(mut vm) = vm.try_borrow_mut() else { continue };
            vm.queue_ready(token);
            vm.drive();
            if let Some(trap) = vm.take_trap() {
                result = result.and(Err(trap.into()));
            }
        }
    }

    /// The VM with the earliest tick or timeout up to `target`, and when that is.
    pub fn next_due(&self, target: u64) -> Option<(u64, Rc<RefCell<Vm>>)> {
        let vms = self.vms.borrow();
        let live = vms.iter().filter_map(|(_, vm)| vm.upgrade());
        let due = live.filter_map(|vm| {
            let due = vm.try_borrow().ok()?.next_due()?;
            (due <= target).then_some((due, vm))
        });
        due.min_by_key(|(due, _)| *due)
    }
}

/// Values by VM id and key; a write without a number always wins, one with a number only over that version.
#[derive(Default)]
pub(crate) struct SharedData {
    values: HashMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    last_cas: u32,
}

impl SharedData {
    pub fn get(&self, vm_id: &str, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.values.get(&(vm_id.to_string(), key.to_vec())).cloned()
    }

    pub fn size(&self) -> (usize, usize) {
        let bytes = self.values.iter().map(|((_, key), (value, _))| key.len() + value.len()).sum();
        (self.values.len(), bytes)
    }

    /// As in Envoy, the first write of a key succeeds whatever its number says.
    pub fn set(&mut self, vm_id: &str, key: &[u8], value: Vec<u8>, cas: u32) -> Result<(), Status> {
        let key = (vm_id.to_string(), key.to_vec());
        if let Some((_, have)) = self.values.get(&key)
            && cas != 0
            && cas != *have
        {
            return Err(Status::CasMismatch);
        }
        // Zero means "no number", so it is never given out.
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        self.values.insert(key, (value, self.last_cas));
        Ok(())
    }
}

/// Queues by VM id and name. The VM that registered a queue last is the one that is told.
#[derive(Default)]
pub(crate) struct Queues {
    last_token: u32,
    tokens: HashMap<(String, Vec<u8>), u32>,
    queues: HashMap<u32, (u64, VecDeque<Vec<u8>>)>,
    ready: VecDeque<(u64, u32)>,
}

impl Queues {
    pub fn register(&mut self, vm_id: &str, name: &[u8], serial: u64) -> u32 {
        let token = *self.tokens.entry((vm_id.to_string(), name.to_vec())).or_insert_with(|| {
            self.last_token += 1;
            self.last_token
        });
        self.queues.entry(token).or_default().0 = serial;
        token
    }

    fn forget(&mut self, vm_id: &str) {
        let queues = &mut self.queues;
        self.tokens.retain(|(have, _), token| {
            let keep = have != vm_id;
            if !keep {
                queues.remove(token);
            }
            keep
        });
    }

    pub fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        self.tokens.get(&(vm_id.to_string(), name.to_vec())).copied()
    }

    pub fn push(&mut self, token: u32, item: Vec<u8>) -> Result<(), Status> {
        let (serial, items) = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        items.push_back(item);
        self.ready.push_back((*serial, token));
        Ok(())
    }

    pub fn pop(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        self.queues.get_mut(&token).ok_or(Status::NotFound)?.1.pop_front().ok_or(Status::Empty)
    }
}

/// One metric; counters and gauges use the value, histograms the samples.
#[derive(Default)]
pub(crate) struct Metric {
    pub value: u64,
    pub samples: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_with_an_old_number_loses_and_the_first_write_never_does() {
        let mut data = SharedData::default();
        assert_eq!(data.set("vm", b"k", b"a".to_vec(), 77), Ok(()));
        let (_, first) = data.get("vm", b"k").expect("written");
        assert_eq!(data.set("vm", b"k", b"b".to_vec(), first), Ok(()));
        assert_eq!(data.set("vm", b"k", b"c".to_vec(), first), Err(Status::CasMismatch));
        assert_eq!(data.set("vm", b"k", b"d".to_vec(), 0), Ok(()));
        assert_eq!(data.get("vm", b"k").expect("written").0, b"d");
        assert_eq!(data.get("other", b"k"), None);
    }

    #[test]
    fn the_last_vm_to_register_a_queue_is_told() {
        let mut queues = Queues::default();
        let token = queues.register("vm", b"q", 1);
        assert_eq!(queues.register("vm", b"q", 2), token);
        assert_ne!(queues.register("vm", b"r", 1), token);
        queues.push(token, b"x".to_vec()).expect("registered");
        assert_eq!(queues.ready.pop_front(), Some((2, token)));
        assert_eq!(queues.pop(token), Ok(b"x".to_vec()));
        assert_eq!(queues.pop(token), Err(Status::Empty));
        assert_eq!(queues.pop(99), Err(Status::NotFound));
    }
}
