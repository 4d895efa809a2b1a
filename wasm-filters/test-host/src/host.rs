//! One Envoy's worth of everything that plugins share.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::abi::{LogLevel, MetricKind, Status};
use crate::clock::{self, Clock};
use crate::module::Source;
use crate::plugin::PluginBuilder;
use crate::shared::Shared;

/// Where virtual time starts unless a test says otherwise: 2026-01-01 00:00:00 UTC.
const START: Duration = Duration::from_secs(1_767_225_600);

/// Time, clusters, shared data, queues and metrics, for the plugins that run in it.
pub struct Host {
    shared: Rc<Shared>,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A host without clusters, at the start of 2026.
    pub fn new() -> Self {
        Self { shared: Rc::new(Shared::new(clock::nanos(SystemTime::UNIX_EPOCH + START))) }
    }

    /// Starts time elsewhere.
    #[must_use]
    pub fn starting_at(self, time: SystemTime) -> Self {
        self.shared.set_now(clock::nanos(time));
        self
    }

    /// Declares a cluster, so that callouts to it are accepted and wait for the test's answer.
    #[must_use]
    pub fn cluster(self, name: &str) -> Self {
        self.set_cluster(name, ClusterState::HasHosts);
        self
    }

    /// Adds, changes or removes a cluster while filters run, as CDS does.
    pub fn set_cluster(&self, name: &str, state: ClusterState) {
        let mut clusters = self.shared.clusters.borrow_mut();
        match state {
            ClusterState::HasHosts => clusters.insert(name.to_string(), true),
            ClusterState::NoHosts => clusters.insert(name.to_string(), false),
            ClusterState::Unknown => clusters.remove(name),
        };
    }

    /// What `proxy_get_log_level` says; everything is captured all the same. Trace by default.
    #[must_use]
    pub fn log_level(self, level: LogLevel) -> Self {
        self.shared.log_level.set(level);
        self
    }

    /// Wasm instructions that one callback may run before it is taken for an endless loop. A thousand million by
    /// default: some seconds, where Envoy would hang for ever.
    #[must_use]
    pub fn fuel_per_call(self, instructions: u64) -> Self {
        self.shared.fuel.set(instructions);
        self
    }

    /// Bytes of memory that one VM may have; 1 GiB by default, as in Envoy. What a module asks for beyond is refused, on
    /// which most allocators abort: [`Trap::out_of_memory`](crate::Trap::out_of_memory).
    #[must_use]
    pub fn memory_limit(self, bytes: usize) -> Self {
        self.shared.memory.set(bytes);
        self
    }

    /// Adds a function for `proxy_call_foreign_function`, or replaces one of Envoy's.
    #[must_use]
    pub fn foreign_function(
        self,
        name: &str,
        call: impl Fn(&[u8]) -> Result<Vec<u8>, Status> + 'static,
    ) -> Self {
        self.shared.foreign.borrow_mut().insert(name.to_string(), Rc::new(call));
        self
    }

    /// Prepares a plugin from a `.wasm` file or a [`Module`](crate::Module).
    pub fn plugin(&self, source: impl Into<Source>) -> PluginBuilder {
        PluginBuilder::new(self.shared.clone(), source.into())
    }

    /// The clock, to move it.
    pub fn clock(&self) -> Clock {
        Clock { shared: self.shared.clone() }
    }

    /// Value of a counter or gauge, whichever VM wrote it; `None` where none was defined.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let metrics = self.shared.metrics.borrow();
        let kinds = [MetricKind::Counter, MetricKind::Gauge];
        kinds.into_iter().find_map(|kind| metrics.get(&(kind, name.to_string()))).map(|metric| metric.value)
    }

    /// Every value that was recorded in a histogram.
    pub fn histogram(&self, name: &str) -> Vec<u64> {
        let metrics = self.shared.metrics.borrow();
        metrics
            .get(&(MetricKind::Histogram, name.to_string()))
            .map(|metric| metric.samples.clone())
            .unwrap_or_default()
    }

    /// Names of all metrics, with their kinds.
    pub fn metrics(&self) -> Vec<(MetricKind, String)> {
        self.shared.metrics.borrow().keys().cloned().collect()
    }

    /// Shared values of all VMs: how many, and the bytes of their keys and values. Envoy forgets none.
    pub fn shared_data_size(&self) -> (usize, usize) {
        self.shared.data.borrow().size()
    }

    /// A shared value and its version.
    pub fn shared_data(&self, vm_id: &str, key: impl AsRef<[u8]>) -> Option<(Vec<u8>, u32)> {
        self.shared.data.borrow().get(vm_id, key.as_ref())
    }
}

/// What a cluster is to a callout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// The callout is sent.
    HasHosts,
    /// The callout is refused at once with `InternalFailure`.
    NoHosts,
    /// The callout is refused at once with `BadArgument`.
    Unknown,
}
