//! What a test says before a plugin starts; the names are those of Envoy's `PluginConfig` and `VmConfig`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use wasmtime::{ExternType, Linker, ValType};

use super::Plugin;
use super::spec::{FailurePolicy, Spec};
use crate::abi::{HOST_FUNCTIONS, Support};
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
    environment: BTreeMap<String, String>,
    stop_headers_alone: bool,
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
            environment: BTreeMap::new(),
            stop_headers_alone: false,
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

    /// A variable of the module's environment (`VmConfig.environment_variables`).
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_string(), value.to_string());
        self
    }

    /// `allow_on_headers_stop_iteration`: a filter that pauses in a headers callback is shown the body all the same,
    /// and the message goes on when a body callback continues. Without it, as by default in Envoy, nothing is shown
    /// until the filter resumes.
    pub fn allow_on_headers_stop_iteration(mut self, allow: bool) -> Self {
        self.stop_headers_alone = allow;
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
        check_imports(&module.module)?;
        let linked = linker.instantiate_pre(&module.module).map_err(Error::Link)?;
        self.shared.hold(&self.vm_id);
        let spec = Spec {
            shared: self.shared.clone(),
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
            environment: self.environment,
            stop_headers_alone: self.stop_headers_alone,
            traps: RefCell::default(),
        };
        Plugin::start(self.shared, Rc::new(spec), self.workers)
    }
}

/// Names the first import that Envoy would refuse. The engine's own error names it, too, but not what is there.
fn check_imports(module: &wasmtime::Module) -> Result<(), Error> {
    for import in module.imports() {
        let fail = |problem: String| {
            Err(Error::Import { module: import.module().into(), name: import.name().into(), problem })
        };
        let module =
            if import.module() == "wasi_unstable" { "wasi_snapshot_preview1" } else { import.module() };
        let known = HOST_FUNCTIONS.iter().find(|known| known.module == module && known.name == import.name());
        let Some(known) = known.filter(|known| !matches!(known.support, Support::Refused(_))) else {
            return fail("there is no such function".to_string());
        };
        let ExternType::Func(have) = import.ty() else {
            return fail("it is a function".to_string());
        };
        let types = |types: &mut dyn Iterator<Item = ValType>| {
            types.map(|one| one.to_string()).collect::<Vec<_>>().join(" ")
        };
        let have = (types(&mut have.params()), types(&mut have.results()));
        if have != (known.params.to_string(), known.result.to_string()) {
            return fail(format!(
                "it is ({}) -> ({}), not ({}) -> ({})",
                known.params, known.result, have.0, have.1
            ));
        }
    }
    Ok(())
}
