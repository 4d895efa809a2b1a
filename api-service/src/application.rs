//! Puts the parts together, binds, and runs them until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::accounts::{AccountService, Passwords};
use crate::api_keys::KeyService;
use crate::cache::MemoryCache;
use crate::catalogue::CatalogueService;
use crate::clock::Clock;
use crate::events::{Events, LogEvents};
use crate::http::{self, App, Jwks, RequestLimits};
use crate::metrics::Metrics;
use crate::revocations::RevocationService;
use crate::server::{self, ConnectionLimits};
use crate::sessions::SessionService;
use crate::sessions::access_token::AccessTokens;
use crate::sessions::signing::KeyRing;
use crate::settings::Settings;
use crate::statistics::StatisticsService;
use crate::store::sqlite::{Location, SqliteStore};

/// How long the internal port may take to drain once the public one has: its clients are our own gateway.
const INTERNAL_DRAIN: Duration = Duration::from_secs(1);

/// Why the application did not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The settings are wrong; nothing was opened or bound.
    #[error("{0:#}")]
    Configuration(anyhow::Error),
    /// The settings may be right, but the world is not.
    #[error(transparent)]
    Runtime(#[from] anyhow::Error),
}

/// What a test replaces.
pub struct Surroundings {
    /// Where the time comes from.
    pub clock: Clock,
    /// Where events go.
    pub events: Arc<dyn Events>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { clock: Clock::system(), events: Arc::new(LogEvents) }
    }
}

/// The service, bound and not yet serving.
pub struct Application {
    public: TcpListener,
    internal: TcpListener,
    public_address: SocketAddr,
    internal_address: SocketAddr,
    app: Arc<App>,
    store: SqliteStore,
    events: Arc<dyn Events>,
    connections: ConnectionLimits,
}

impl Application {
    /// Checks the settings, opens the store, binds both ports.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn build(settings: Settings) -> Result<Self, BuildError> {
        Self::build_in(settings, Surroundings::default()).await
    }

    /// [`Self::build`] with another clock or event sink.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn build_in(settings: Settings, surroundings: Surroundings) -> Result<Self, BuildError> {
        settings.check().map_err(|error| BuildError::Configuration(anyhow::Error::msg(error)))?;
        let location: Location = settings
            .database
            .parse()
            .map_err(|error| BuildError::Configuration(anyhow::Error::new(error)))?;
        let store = SqliteStore::open(&location).await?;
        let events = Arc::clone(&surroundings.events);
        let app = Arc::new(assemble(&settings, &store, surroundings).await?);
        let public = bind(settings.public_address).await?;
        let internal = bind(settings.internal_address).await?;
        let public_address = public.local_addr().context("a bound port has no address")?;
        let internal_address = internal.local_addr().context("a bound port has no address")?;
        tracing::info!(endpoint = "public", address = %public_address, "listening");
        tracing::info!(endpoint = "internal", address = %internal_address, "listening");
        let connections = ConnectionLimits {
            connections: settings.max_connections,
            keep_alive: settings.keep_alive,
            drain: settings.drain_timeout,
        };
        Ok(Self { public, internal, public_address, internal_address, app, store, events, connections })
    }

    /// Where the public port really is.
    pub fn public_address(&self) -> SocketAddr {
        self.public_address
    }

    /// Where the internal port really is.
    pub fn internal_address(&self) -> SocketAddr {
        self.internal_address
    }

    /// Serves until `stop`, then drains: not ready, no new connections, requests in flight finish. The
    /// internal port goes last, so that drain can be watched and the gateway can still introspect.
    ///
    /// # Errors
    /// A task of ours died.
    pub async fn run_until_stopped(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (stop_public, public_stopped) = watch::channel(false);
        let (stop_internal, internal_stopped) = watch::channel(false);
        let public = spawn(self.public, http::public(&self.app)?, self.connections, public_stopped);
        let limits = ConnectionLimits { drain: INTERNAL_DRAIN, ..self.connections };
        let internal = spawn(self.internal, http::internal(&self.app)?, limits, internal_stopped);
        self.app.set_ready(true);
        stop.await;
        tracing::info!("draining");
        self.app.set_ready(false);
        let _ = stop_public.send(true);
        public.await.context("the public port died")?;
        let _ = stop_internal.send(true);
        internal.await.context("the internal port died")?;
        self.events.flush().await;
        self.store.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

fn spawn(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: watch::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(server::serve(listener, router, limits, stop))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn assemble(settings: &Settings, store: &SqliteStore, around: Surroundings) -> anyhow::Result<App> {
    let Surroundings { clock, events } = around;
    let store = Arc::new(store.clone());
    let metrics = Metrics::new().context("cannot register the metrics")?;
    let cache = Arc::new(MemoryCache::new(settings.cache_entries));
    let keys = KeyRing::load(&*store, clock.now()).await.context("cannot load the signing keys")?;
    let keys = Arc::new(keys);
    let (issuer, audience) = (settings.issuer.clone(), settings.audience.clone());
    let access_tokens =
        Arc::new(AccessTokens::new(Arc::clone(&keys), issuer, audience, settings.access_token_ttl));
    let passwords = Passwords::new(settings.max_password_hashes, metrics.password_hashes.clone());
    let passwords = Arc::new(passwords.context("cannot hash passwords")?);
    let accounts =
        Arc::new(AccountService::new(store.clone(), passwords, Arc::clone(&events), clock.clone()));
    let sessions = SessionService::new(
        Arc::clone(&accounts),
        store.clone(),
        Arc::clone(&access_tokens),
        settings.refresh_token_ttl,
        Arc::clone(&events),
        clock.clone(),
    );
    let ttl = settings.cache_ttl;
    let keys_service = KeyService::new(store.clone(), cache.clone(), ttl, Arc::clone(&events), clock.clone());
    let catalogue = CatalogueService::new(store.clone(), cache, ttl, events, clock.clone());
    let statistics = StatisticsService::new(store.clone(), clock.clone());
    let revocations = RevocationService::new(
        store.clone(),
        settings.revocation_retention,
        settings.access_token_ttl,
        clock.clone(),
    );
    let limits = RequestLimits {
        body: settings.max_body,
        body_timeout: settings.body_timeout,
        request_timeout: settings.request_timeout,
        requests: settings.max_requests,
    };
    Ok(App {
        accounts,
        sessions,
        keys: keys_service,
        revocations,
        catalogue,
        statistics,
        access_tokens,
        jwks: Jwks::render(&keys.jwks())?,
        health: store,
        identity: settings.identity,
        clock,
        metrics,
        limits,
    })
}
