//! Logs and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::time::Duration;

use prometheus::{
    CounterVec, Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use tracing_subscriber::EnvFilter;

use crate::http::PortStatus;
use crate::load_reports::Loads;
use crate::rollout::GroupStatus;
use crate::source::etcd::EtcdStatus;

/// Human text on a terminal, JSON lines elsewhere; always to standard error.
///
/// # Errors
/// When `filter` is no filter.
pub fn init_logs(filter: &str) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| format!("`{filter}` is no log filter: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.init();
    } else {
        logs.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
    Ok(())
}

/// What is counted beside what the discovery service counts itself.
pub struct Metrics {
    registry: Registry,
    reloads: IntCounterVec,
    config_ok: IntGauge,
    propagation: HistogramVec,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// When two metrics have one name, which a test would show.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let reloads = IntCounterVec::new(
            Opts::new(
                "tollgate_config_reloads_total",
                "Changed configurations read, by result (accepted, rejected)",
            ),
            &["result"],
        )?;
        let config_ok = IntGauge::new(
            "tollgate_config_ok",
            "1 while the files on disk are what is served, 0 while they are rejected",
        )?;
        let propagation = HistogramVec::new(
            HistogramOpts::new(
                "tollgate_config_propagation_seconds",
                "Time from reading a configuration to the last proxy's ACK, by group",
            )
            .buckets(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            &["group"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(config_ok.clone()))?;
        registry.register(Box::new(propagation.clone()))?;
        Ok(Self { registry, reloads, config_ok, propagation })
    }

    /// Adds what another part counts itself.
    ///
    /// # Errors
    /// When a name is taken, which a test would show.
    pub fn register(
        &self,
        collectors: Vec<Box<dyn prometheus::core::Collector>>,
    ) -> Result<(), prometheus::Error> {
        collectors.into_iter().try_for_each(|collector| self.registry.register(collector))
    }

    /// A changed configuration was read.
    pub fn reloaded(&self, accepted: bool) {
        self.reloads.with_label_values(&[if accepted { "accepted" } else { "rejected" }]).inc();
        self.config_ok.set(accepted.into());
    }

    /// Every proxy of `group` has a configuration that was read this long ago.
    pub fn arrived(&self, group: &str, took: Duration) {
        self.propagation.with_label_values(&[group]).observe(took.as_secs_f64());
    }

    /// Prometheus text of everything, with what the discovery service counts and the proxies report; with `etcd`, how it
    /// stands, and the revision that is served.
    ///
    /// # Errors
    /// When a metric can't be written.
    pub fn render(
        &self,
        discovery: &crate::discovery::Registry,
        groups: &BTreeMap<String, GroupStatus>,
        load: &Loads,
        etcd: Option<&(EtcdStatus, i64)>,
        port: &PortStatus,
    ) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(discovery_metrics(discovery)?.gather());
        families.extend(group_metrics(discovery, groups)?.gather());
        families.extend(load_metrics(load)?.gather());
        if let Some((status, served)) = etcd {
            families.extend(etcd_metrics(status, *served)?.gather());
        }
        families.extend(port_metrics(port)?.gather());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Where each group is, and how much its proxies are served.
fn group_metrics(
    discovery: &crate::discovery::Registry,
    groups: &BTreeMap<String, GroupStatus>,
) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, labels: &[&str]| GaugeVec::new(Opts::new(name, help), labels);
    let proxies = gauge("tollgate_xds_proxies", "Connected proxies, by group", &["group"])?;
    let pending = gauge(
        "tollgate_rollout_pending_proxies",
        "Proxies that have not answered for the group's snapshot, by group",
        &["group"],
    )?;
    let held = gauge(
        "tollgate_rollout_held",
        "Clusters and listeners that a proxy refused, by group and whether all proxies keep the last good (last_good)",
        &["group", "last_good"],
    )?;
    let resources = gauge(
        "tollgate_snapshot_resources",
        "Resources in the group's snapshot, by group and type",
        &["group", "type"],
    )?;
    let bytes = gauge(
        "tollgate_snapshot_bytes",
        "Bytes of the group's snapshot, by group and type",
        &["group", "type"],
    )?;
    for (group, status) in groups {
        let mut ids = BTreeSet::new();
        discovery.visit(group, |proxy, _| {
            ids.insert(proxy.id.clone());
        });
        proxies.with_label_values(&[group]).set(ids.len() as f64);
        pending.with_label_values(&[group]).set(status.waiting.len() as f64);
        for last_good in [true, false] {
            let count = status.held.iter().filter(|held| held.last_good == last_good).count();
            held.with_label_values(&[group.as_str(), &last_good.to_string()]).set(count as f64);
        }
        for (type_name, size) in &status.types {
            resources.with_label_values(&[group, *type_name]).set(size.resources as f64);
            bytes.with_label_values(&[group, *type_name]).set(size.bytes as f64);
        }
    }
    for gauge in [proxies, pending, held, resources, bytes] {
        registry.register(Box::new(gauge))?;
    }
    Ok(registry)
}

/// Whether changes in etcd are heard of, and how far they have come.
fn etcd_metrics(status: &EtcdStatus, served: i64) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    for (name, help, value) in [
        ("tollgate_etcd_connected", "1 while changes in etcd are heard of", i64::from(status.connected)),
        ("tollgate_etcd_revision", "Revision of the last change in etcd that was heard of", status.revision),
        ("tollgate_config_revision", "Revision of etcd that is served", served),
    ] {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(value);
        registry.register(Box::new(gauge))?;
    }
    Ok(registry)
}

/// The discovery service keeps plain numbers; they become metrics when somebody asks.
fn discovery_metrics(discovery: &crate::discovery::Registry) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let streams = GaugeVec::new(Opts::new("tollgate_xds_streams", "Open xDS streams, by group"), &["group"])?;
    for connected in discovery.list() {
        streams.with_label_values(&[&connected.proxy.group]).inc();
    }
    registry.register(Box::new(streams))?;
    let counter = |name: &str, help: &str| CounterVec::new(Opts::new(name, help), &["type"]);
    let pushes = counter("tollgate_xds_pushes_total", "Responses sent, by type")?;
    let acks = counter("tollgate_xds_acks_total", "Responses accepted, by type")?;
    let nacks = counter("tollgate_xds_nacks_total", "Responses refused, by type")?;
    for count in discovery.counters().read() {
        for (counter, value) in [(&pushes, count.pushes), (&acks, count.acks), (&nacks, count.nacks)] {
            counter.with_label_values(&[count.type_name]).inc_by(value as f64);
        }
    }
    for counter in [pushes, acks, nacks] {
        registry.register(Box::new(counter))?;
    }
    Ok(registry)
}

/// The connections of the gRPC port.
fn port_metrics(port: &PortStatus) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let open = IntGauge::new("tollgate_xds_connections", "Open connections of the gRPC port")?;
    open.set(i64::try_from(port.connections).unwrap_or(i64::MAX));
    registry.register(Box::new(open))?;
    let refused = CounterVec::new(
        Opts::new(
            "tollgate_xds_connections_refused_total",
            "Connections of the gRPC port that were refused, by why",
        ),
        &["reason"],
    )?;
    for (reason, count) in &port.refused {
        refused.with_label_values(&[*reason]).inc_by(*count as f64);
    }
    registry.register(Box::new(refused))?;
    Ok(registry)
}

/// What the proxies report of their clusters. The names come from the configuration, so there are no more labels.
fn load_metrics(loads: &Loads) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let requests = CounterVec::new(
        Opts::new(
            "tollgate_upstream_requests_total",
            "Requests the proxies completed, by group, cluster and result (success, error)",
        ),
        &["group", "cluster", "result"],
    )?;
    let labels = ["group", "cluster"];
    let dropped = CounterVec::new(
        Opts::new(
            "tollgate_upstream_requests_dropped_total",
            "Requests the proxies did not send on, as a circuit breaker was open or load was shed",
        ),
        &labels,
    )?;
    let in_progress = GaugeVec::new(
        Opts::new("tollgate_upstream_requests_in_progress", "Requests open when the proxies last reported"),
        &labels,
    )?;
    for (group, clusters) in loads {
        for (cluster, load) in clusters {
            let total = &load.total;
            requests.with_label_values(&[group, cluster, "success"]).inc_by(total.successful as f64);
            requests.with_label_values(&[group, cluster, "error"]).inc_by(total.errors as f64);
            dropped.with_label_values(&[group, cluster]).inc_by(total.dropped as f64);
            in_progress.with_label_values(&[group, cluster]).set(total.in_progress as f64);
        }
    }
    registry.register(Box::new(requests))?;
    registry.register(Box::new(dropped))?;
    registry.register(Box::new(in_progress))?;
    Ok(registry)
}
