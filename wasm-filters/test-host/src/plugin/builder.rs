//! What a test says before a plugin starts; the names are those of Envoy's `PluginConfig` and `VmConfig`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::Linker;

use super::Plugin;
use super::spec::{FailurePolicy, Spec};
use crate::error::Error;
use crate::hostcalls;
use crate::module::Source;
use crate::path;
use crate::shared::Shared;

/// A plugin that has not started.
#[must_use]
pub struct PluginBuilder {
    shared: Rc<Shared>,
    source: Source,
    name: String,
    root_id: String,
    vm_id: String,
    vm_configuration: Vec<u8>,
    configuration: Vec<u8>,
    failure_policy: FailurePolicy,
    reload_backoff: Duration,
    properties: BTreeMap<Vec<u8>, Vec<u8>>,
    workers: usize,
}

impl PluginBuilder {
    pub(crate) fn new(shared: Rc<Shared>, source: Source) -> Self {
        Self {
            shared,
            source,
            name: String::new(),
            root_id: String::new(),
            vm_id: String::new(),
            vm_configuration: Vec::new(),
            configuration: Vec::new(),
            failure_policy: FailurePolicy::default(),
            reload_backoff: Duration::from_secs(1),
            properties: BTreeMap::new(),
            workers: 1,
        }
    }

    /// The plugin's configuration, as `proxy_on_configure` reads it.
    pub fn configuration(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.configuration = bytes.into();
        self
    }

    /// The VM's configuration, as `proxy_on_vm_start` reads it.
    pub fn vm_configuration(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.vm_configuration = bytes.into();
        self
    }

    /// Plugins with the same id share data and queues.
    pub fn vm_id(mut self, id: &str) -> Self {
        self.vm_id = id.to_string();
        self
    }

    /// `plugin_root_id`.
    pub fn root_id(mut self, id: &str) -> Self {
        self.root_id = id.to_string();
        self
    }

    /// `plugin_name`.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_string();
        self
    }

    /// Number of workers, one by default and at least.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count.max(1);
        self
    }

    /// What happens after a trap; closed by default, as in Envoy.
    pub fn failure_policy(mut self, policy: FailurePolicy) -> Self {
        self.failure_policy = policy;
        self
    }

    /// How long a VM must be dead before it is made anew. Envoy adds up to half of it at random; this does not.
    pub fn reload_backoff(mut self, backoff: Duration) -> Self {
        self.reload_backoff = backoff;
        self
    }

    /// A property that every stream and the root see.
    pub fn property(
        mut self,
        segments: impl IntoIterator<Item = impl AsRef<str>>,
        value: impl AsRef<[u8]>,
    ) -> Self {
        self.properties.insert(path(segments), value.as_ref().to_vec());
        self
    }

    /// Starts the canary, the main VM and the workers, in this order.
    ///
    /// # Errors
    ///
    /// The module cannot be loaded, refuses its configuration, or traps.
    pub fn start(self) -> Result<Plugin, Error> {
        let module = self.source.load()?;
        let speaks = |version: &str| module.module.get_export(version).is_some();
        if !speaks("proxy_abi_version_0_2_1") && !speaks("proxy_abi_version_0_2_0") {
            return Err(Error::Abi);
        }
        let mut linker = Linker::new(&module.engine);
        hostcalls::link(&mut linker).map_err(Error::Link)?;
        let linked = linker.instantiate_pre(&module.module).map_err(Error::Link)?;
        let spec = Spec {
            module,
            linked,
            name: self.name,
            root_id: self.root_id,
            vm_id: self.vm_id,
            vm_configuration: self.vm_configuration,
            configuration: self.configuration,
            failure_policy: self.failure_policy,
            reload_backoff: self.reload_backoff,
            properties: self.properties,
            traps: RefCell::default(),
        };
        Plugin::start(self.shared, Rc::new(spec), self.workers)
    }
}
