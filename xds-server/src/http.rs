//! What people and monitoring ask: status page, `/status`, `/metrics`, `/healthz`, `/readyz`; and the filters, which Envoys
//! fetch (`wasm`). Read-only.

mod port;
mod wasm;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::discovery::registry::Connected;
use crate::discovery::session::Flavour;
use crate::discovery::{Registry, SnapshotCache};
use crate::follow::ConfigStatus;
use crate::load_reports::{LoadReports, Loads};
use crate::quota::QuotaStatus;
use crate::revocations::{ListStatus, Revocations};
use crate::rollout::{GroupStatus, Statuses};
use crate::source::etcd::{Etcd, EtcdStatus};
use crate::source::module::{ModuleStatus, ModuleStore};
use crate::status::{lock, unix_seconds};
use crate::telemetry::Metrics;

pub use port::{Port, PortStatus};

/// Everything the pages show.
#[derive(Clone)]
pub struct Sources {
    /// What is served and what is wrong.
    pub config: Arc<Mutex<ConfigStatus>>,
    /// Where that comes from, if it is no file.
    pub etcd: Option<Etcd>,
    /// Where each group is.
    pub groups: Statuses,
    /// Who is connected.
    pub registry: Registry,
    /// What load they report.
    pub reports: LoadReports,
    /// What they are served.
    pub cache: SnapshotCache,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The filters' modules, if they are served from here.
    pub modules: Option<ModuleStore>,
    /// The gRPC port.
    pub port: Port,
    /// How the quota service stands.
    pub quota: QuotaStatus,
    /// What was revoked.
    pub revocations: Revocations,
}

/// All pages.
pub fn router(sources: Sources) -> Router {
    let modules = sources.modules.clone().map(wasm::router);
    let pages = Router::new()
        .route("/", get(async || Html(include_str!("http/status.html"))))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(sources);
    pages.merge(modules.unwrap_or_default())
}

/// The answer of `/status`.
#[derive(Debug, Serialize)]
struct Status {
    /// When this was said, in seconds since 1970.
    now: u64,
    config: ConfigStatus,
    /// How it stands with etcd. `null` where the configuration is in files.
    etcd: Option<EtcdStatus>,
    groups: std::collections::BTreeMap<String, GroupStatus>,
    proxies: Vec<Proxy>,
    /// By group and cluster, as the proxies report it.
    load: Loads,
    /// The gRPC port.
    port: PortStatus,
    /// The filters that are served from here.
    modules: std::collections::BTreeMap<&'static str, ModuleStatus>,
    quota: crate::quota::Shown,
    /// What was revoked, by the URL of the list.
    revocations: std::collections::BTreeMap<String, ListStatus>,
}

#[derive(Debug, Serialize)]
struct Proxy {
    id: String,
    cluster: String,
    group: String,
    /// Whether the YAML names the group; if not, the proxy waits for ever.
    known_group: bool,
    peer: Option<String>,
    agent: String,
    flavour: &'static str,
    connected_seconds: u64,
    types: std::collections::BTreeMap<String, Type>,
}

/// One type on one stream.
#[derive(Debug, Serialize)]
struct Type {
    subscribed: String,
    sent: Option<String>,
    acked: Option<String>,
    nack: Option<Nack>,
    /// Resources it refused and has not got anew.
    rejected: usize,
}

#[derive(Debug, Serialize)]
struct Nack {
    version: String,
    message: String,
    at: u64,
}

async fn status(State(sources): State<Sources>) -> Json<Status> {
    let groups = lock(&sources.groups).clone();
    let proxies = sources.registry.list().iter().map(|connected| proxy(connected, &groups)).collect();
    let config = lock(&sources.config).clone();
    let etcd = sources.etcd.as_ref().map(Etcd::status);
    let load = sources.reports.by_cluster(&sources.cache);
    let modules = sources.modules.as_ref().map(ModuleStore::status).unwrap_or_default();
    Json(Status {
        now: unix_seconds(SystemTime::now()),
        config,
        etcd,
        groups,
        proxies,
        load,
        port: sources.port.status(),
        modules,
        quota: sources.quota.show(),
        revocations: sources.revocations.status(),
    })
}

fn proxy(connected: &Connected, groups: &std::collections::BTreeMap<String, GroupStatus>) -> Proxy {
    let proxy = &connected.proxy;
    let types = connected.types.iter().map(|(type_url, status)| {
        let subscribed = if status.wildcard { "*".into() } else { status.names.to_string() };
        let nack = status.nack.as_ref().map(|nack| Nack {
            version: nack.version.to_string(),
            message: nack.message.clone(),
            at: unix_seconds(nack.at),
        });
        let sent = status.sent.as_ref().map(|(version, _)| version.to_string());
        let acked = status.acked.as_ref().map(|version| version.to_string());
        (type_url.to_string(), Type { subscribed, sent, acked, nack, rejected: status.rejected })
    });
    Proxy {
        id: proxy.id.clone(),
        cluster: proxy.cluster.clone(),
        group: proxy.group.clone(),
        known_group: groups.contains_key(&proxy.group),
        peer: proxy.peer.map(|peer| peer.to_string()),
        agent: proxy.agent.clone(),
        flavour: match proxy.flavour {
            Flavour::StateOfTheWorld => "sotw",
            Flavour::Delta => "delta",
        },
        connected_seconds: proxy.since.elapsed().unwrap_or(Duration::ZERO).as_secs(),
        types: types.collect(),
    }
}

/// Ready once a configuration is published, which is before anything is bound; not ready while going down would
/// be said by the connection.
async fn ready(State(sources): State<Sources>) -> (StatusCode, &'static str) {
    match lock(&sources.config).version.is_empty() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "no configuration\n"),
        false => (StatusCode::OK, "ready\n"),
    }
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let groups = lock(&sources.groups).clone();
    let load = sources.reports.by_cluster(&sources.cache);
    let etcd = sources.etcd.as_ref().map(|etcd| (etcd.status(), lock(&sources.config).revision.unwrap_or(0)));
    match sources.metrics.render(&sources.registry, &groups, &load, etcd.as_ref(), &sources.port.status()) {
        Ok(text) => {
            let mut response = text.into_response();
            let kind = HeaderValue::from_static("text/plain; version=0.0.4");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            tracing::error!(%error, "can't write metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
