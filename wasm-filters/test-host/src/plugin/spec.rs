//! What a plugin is configured with, as all its VMs see it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::InstancePre;

use crate::error::Trap;
use crate::module::Module;
use crate::shared::Shared;
use crate::vm::state::VmState;

pub(crate) struct Spec {
    pub shared: Rc<Shared>,
    pub module: Module,
    pub linked: InstancePre<VmState>,
    pub name: String,
    pub root_id: String,
    pub vm_id: String,
    pub vm_configuration: Vec<u8>,
    pub configuration: Vec<u8>,
    pub failure_policy: FailurePolicy,
    pub reload_backoff: Duration,
    pub properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub environment: BTreeMap<String, String>,
    /// Pausing in a headers callback holds the headers alone.
    pub stop_headers_alone: bool,
    pub traps: RefCell<Vec<Trap>>,
}

impl Drop for Spec {
    fn drop(&mut self) {
        self.shared.release(&self.vm_id);
    }
}

/// What a worker does when its VM has trapped (Envoy's `PluginConfig.failure_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailurePolicy {
    /// Every stream gets 503 from then on.
    #[default]
    FailClosed,
    /// Streams pass as if the filter was not there.
    FailOpen,
    /// As closed, but the first stream after the back-off gets a new VM.
    FailReload,
}
