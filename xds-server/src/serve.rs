//! `xds-server serve`: wires the parts, in the order that fails early. Configuration first, then sockets, then
//! tasks.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::client_status::{AnswerLimits, ClientStatusService};
use crate::discovery::{DiscoveryService, Registry, SnapshotCache, transport};
use crate::fence::fence;
use crate::follow::{self, ConfigError, Follow};
use crate::grouping::{Groups, Security};
use crate::http::{self, Port, Sources};
use crate::load_reports::LoadReports;
use crate::load_reports::service::LoadService;
use crate::modules::{Delivery, Told};
use crate::quota::{self, QuotaServer};
use crate::revocations::Revocations;
use crate::rollout::{Context, Rollout};
use crate::settings::{Serve, Transport};
use crate::source::Source;
use crate::source::etcd::{Etcd, EtcdError};
use crate::source::file::FileSource;
use crate::source::key_store::KeyStore;
use crate::source::key_url::KeyFetcher;
use crate::source::module::ModuleError;
use crate::source::port_tls::{PortFiles, PortTls, PortTlsError};
use crate::source::revocation_list::RevocationFetcher;
use crate::source::watch::{Settle, Watch};
use crate::telemetry::Metrics;
use crate::translate::QuotaService;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration can't be read or is wrong; nothing was bound.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// etcd can't be asked, and nothing is known of it; nothing was bound.
    #[error("can't read the configuration from etcd: {0}")]
    Etcd(#[from] EtcdError),
    /// A filter can't be served; nothing was bound.
    #[error("{0}; build the filters with `make wasm`, or see --wasm-dir and --wasm-delivery")]
    Module(#[from] ModuleError),
    /// The gRPC port can't speak TLS; nothing was bound.
    #[error("{0}; see --grpc-certificate, --grpc-key and --grpc-client-ca")]
    PortTls(#[from] PortTlsError),
    /// Settings don't go together; nothing was bound.
    #[error("{0}")]
    Usage(String),
    /// The system refused something.
    #[error("{0:#}")]
    System(#[from] anyhow::Error),
}

impl StartError {
    /// What the program ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Module(_) | Self::PortTls(_) => crate::BAD_CONFIGURATION,
            Self::Usage(_) => crate::BAD_USAGE,
            Self::Etcd(_) | Self::System(_) => crate::FAILED,
        }
    }
}

/// A server with its sockets bound, and a configuration read.
pub struct Server {
    grpc: TcpListener,
    http: TcpListener,
    follow: Follow,
    etcd: Option<Etcd>,
    modules: Told,
    quota: QuotaServer,
    revocations: Revocations,
    discovery: DiscoveryService,
    port: Option<(PortTls, Watch)>,
    load: LoadService,
    client_status: ClientStatusService,
    sources: Sources,
}

impl Server {
    /// Reads the configuration, binds the sockets, publishes the first snapshots. Serves nobody yet.
    ///
    /// # Errors
    /// Before anything is bound: when the configuration is wrong. After: when a socket is taken.
    pub async fn build(settings: &Serve) -> Result<Self, StartError> {
        let source = open(settings).await?;
        let first = follow::first(&source).await?;
        let modules = Delivery::open(settings)?;
        let store = settings.quota.store().map_err(StartError::Usage)?;
        settings.quota.advertised(settings.quota.quota_address).map_err(StartError::Usage)?;
        let port = open_port(settings)?;
        let grpc = bind("grpc", settings.grpc_address)?;
        let http = bind("http", settings.http_address)?;

        let (limits, known) = tokio::sync::watch::channel(Arc::new(quota::Limits::default()));
        let counters = quota::Counters::new().context("can't make metrics")?;
        let quota = QuotaServer::bind(settings.quota.quota_address, store, known, counters.clone())?;
        let revocations = Revocations::new().context("can't make metrics")?;
        let quota = quota.with_routes(revocations.router());
        let address = settings.quota.advertised(quota.address()).map_err(StartError::Usage)?;

        let metrics = Arc::new(Metrics::new().context("can't make metrics")?);
        metrics.register(counters.collectors()).context("can't make metrics")?;
        metrics.register(revocations.collectors()).context("can't make metrics")?;
        let revoked = RevocationFetcher::new(&settings.state_dir, revocations.clone());
        let revoked = revoked.context("can't make an HTTP client")?;
        let fetcher =
            KeyFetcher::new(KeyStore::new(&settings.state_dir)).context("can't make an HTTP client")?;
        let watch = Watch::new(Settle::of(settings)).context("can't watch files")?;
        let store = modules.store();
        let modules = modules.tell(http.local_addr().context("can't tell the HTTP port")?)?;
        let (cache, registry, reports) = (SnapshotCache::new(), Registry::new(), LoadReports::default());
        let rollout = Rollout::new(Context {
            cache: cache.clone(),
            registry: registry.clone(),
            key_urls: fetcher.subscribe(),
            reports: reports.clone(),
            modules: modules.subscribe(),
            quota: QuotaService { address, timeout: settings.quota.quota_timeout },
            deadline: settings.rollout_deadline,
            metrics: Arc::clone(&metrics),
        });
        let groups = rollout.statuses();
        let etcd = source.etcd().cloned();
        let security = Security::of(settings, grpc.local_addr().context("can't tell the gRPC port")?);
        let proxy_groups = Groups::new(security);
        let parts = follow::Parts {
            watch,
            fetcher,
            revoked,
            rollout,
            metrics: Arc::clone(&metrics),
            proxy_groups: proxy_groups.clone(),
            limits,
        };
        let follow = Follow::start(source, first, parts);
        let fence = etcd.clone().map(|etcd| fence(etcd, follow.status(), Arc::clone(&groups)));
        let mut discovery =
            DiscoveryService::new(cache.clone(), registry.clone(), settings.transport.limits())
                .with_grouping(proxy_groups.grouping())
                .regrouped_by(proxy_groups.changes())
                .with_fence(fence);
        let port = match port {
            Some(port) => {
                discovery = discovery.with_tls(port.trust());
                Some((port, Watch::new(Settle::of(settings)).context("can't watch files")?))
            }
            None => None,
        };
        let sources = Sources {
            config: follow.status(),
            etcd: etcd.clone(),
            groups,
            registry,
            reports: reports.clone(),
            cache,
            metrics,
            modules: store,
            quota: quota.status(),
            revocations: revocations.clone(),
            port: Port::new(discovery.clone(), security, port.as_ref().map(|(port, _)| port.warnings())),
        };
        let interval = settings.load_reporting.load_report_interval;
        let load = LoadService::new(discovery.clone(), reports, interval);
        let visibility = settings.client_status.visibility;
        let client_status = ClientStatusService::new(discovery.clone(), visibility, AnswerLimits::default());
        Ok(Self {
            grpc,
            http,
            follow,
            etcd,
            modules,
            quota,
            revocations,
            discovery,
            port,
            load,
            client_status,
            sources,
        })
    }

    /// Where Envoys connect, with the real port.
    ///
    /// # Errors
    /// When the system has forgotten.
    pub fn grpc_address(&self) -> std::io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where people look, with the real port.
    ///
    /// # Errors
    /// When the system has forgotten.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until `shutdown`; then ends all streams, so that Envoys reconnect elsewhere with what they have.
    ///
    /// # Errors
    /// When a socket fails.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            grpc,
            http,
            follow,
            etcd,
            modules,
            quota,
            revocations,
            discovery,
            port,
            load,
            client_status,
            sources,
        } = self;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let wait = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
            // The sender lives until the end of this function.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let mut quota = quota.start()?;
        let mut follow = tokio::spawn(follow.run());
        let mut etcd = tokio::spawn(async move {
            match etcd {
                Some(etcd) => etcd.run().await,
                None => std::future::pending().await,
            }
        });
        let mut modules = tokio::spawn(modules.run());
        let mut port = tokio::spawn(async move {
            match port {
                Some((port, watch)) => port.follow(watch).await,
                None => std::future::pending().await,
            }
        });
        let mut pages = tokio::spawn(
            axum::serve(http, http::router(sources))
                .with_graceful_shutdown(wait(stopped.clone()))
                .into_future(),
        );
        let routes =
            discovery.routes().add_service(load.into_server()).add_service(client_status.into_server());
        let mut served = std::pin::pin!(discovery.serve_routes(routes, grpc, wait(stopped)));
        // None of them ends by itself: one that did would leave a server that looks well and is not.
        tokio::select! {
            () = shutdown => {}
            () = &mut served => anyhow::bail!("the gRPC server ended"),
            ended = quota.ended() => anyhow::bail!("the quota service ended: {ended:?}"),
            ended = &mut pages => anyhow::bail!("the HTTP server ended: {ended:?}"),
            ended = &mut follow => anyhow::bail!("nobody follows the configuration any more: {ended:?}"),
            ended = &mut etcd => anyhow::bail!("nobody follows etcd any more: {ended:?}"),
            ended = &mut modules => anyhow::bail!("nobody follows the filters any more: {ended:?}"),
            ended = &mut port => anyhow::bail!("nobody follows the gRPC port's certificates any more: {ended:?}"),
        }
        tracing::info!("stopping: ending all streams");
        stop.send_replace(true);
        follow.abort();
        etcd.abort();
        modules.abort();
        port.abort();
        revocations.close();
        quota.stop().await?;
        served.await;
        // A page that is still read must not hold up the end.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), pages).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Where the configuration comes from.
async fn open(settings: &Serve) -> Result<Source, StartError> {
    settings.etcd.check().map_err(StartError::Usage)?;
    match settings.etcd.is_set() {
        true => Ok(Source::Etcd(Etcd::open(&settings.etcd, &settings.state_dir).await?)),
        false => Ok(Source::Files(FileSource::new(&settings.config))),
    }
}

/// The port's certificates, if it is to speak TLS.
fn open_port(settings: &Serve) -> Result<Option<PortTls>, PortTlsError> {
    let Transport { grpc_certificate, grpc_key, grpc_client_ca, .. } = settings.transport.clone();
    // The command line has seen to it that there is neither or both.
    let Some((certificate, key)) = grpc_certificate.zip(grpc_key) else { return Ok(None) };
    PortTls::open(PortFiles { certificate, key, client_ca: grpc_client_ca }).map(Some)
}

fn bind(endpoint: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = transport::bind(address).with_context(|| format!("can't bind {endpoint} to {address}"))?;
    let address = listener.local_addr()?;
    tracing::info!(endpoint, %address, "listening");
    Ok(listener)
}
