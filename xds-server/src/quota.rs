//! The quota service: token buckets that all Envoys of a gateway share, over Envoy's own rate limit protocol (RLS v3).
//!
//! ```text
//! Envoy's ratelimit filter ── one debit a request ──┐
//!                                                   ├─► service ─► store (memory, or Redis)
//! rate_limit.wasm ── a lease of many tokens ────────┘      └─ limits: policies with `scope: global`, by name
//! ```
//!
//! Tokens are debited in the store *before* they are granted, so the Envoys together never admit more than rate · T +
//! burst from a cold start on, whatever becomes of them, of us or of the network: what is lost was counted as used.
//!
//! It has a port and a runtime of its own, so that a big push holds up no refill, and no flood of refills a push. How
//! many tokens to ask for, and when, is the filters' business (tollgate-filter-core, `lease`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

mod bucket_id;
mod counters;
mod limits;
mod service;
mod status;
mod store;

pub use counters::Counters;
pub use limits::{Limits, publish};
pub use service::QuotaService;
pub use status::{QuotaStatus, Shown};
pub use store::{Memory, Redis, RedisSettings, Store, StoreError, Topology};

/// Threads that serve: batches are small, and Redis does the work.
const THREADS: usize = 2;

/// Connections that ping no more are closed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Requests on one connection at a time; each Envoy worker has few under way, Envoy's own filter many.
const STREAMS_PER_CONNECTION: u32 = 1_000;

/// Time for requests under way, when it ends.
const DRAIN: Duration = Duration::from_secs(2);

/// A service with its socket bound.
#[derive(Debug)]
pub struct QuotaServer {
    listener: std::net::TcpListener,
    service: QuotaService,
    address: SocketAddr,
    further: axum::Router,
}

/// A service that is under way. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    stop: Option<watch::Sender<bool>>,
    ended: oneshot::Receiver<anyhow::Result<()>>,
}

impl QuotaServer {
    /// Binds the socket. Serves nobody yet.
    ///
    /// # Errors
    /// When it is taken.
    pub fn bind(
        address: SocketAddr,
        store: Store,
        limits: watch::Receiver<Arc<Limits>>,
        counters: Counters,
    ) -> anyhow::Result<Self> {
        let listener =
            std::net::TcpListener::bind(address).with_context(|| format!("can't bind quota to {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        tracing::info!(endpoint = "quota", %address, store = store.describe(), "listening");
        Ok(Self {
            listener,
            service: QuotaService::new(store, limits, counters),
            address,
            further: axum::Router::new(),
        })
    }

    /// Serves further routes to Envoys, by the same port and threads.
    #[must_use]
    pub fn with_routes(self, further: axum::Router) -> Self {
        Self { further, ..self }
    }

    /// Where Envoys connect, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it stands, for the status page.
    pub fn status(&self) -> QuotaStatus {
        self.service.status()
    }

    /// Serves, on threads of its own.
    ///
    /// # Errors
    /// When the system has no threads.
    pub fn start(self) -> anyhow::Result<Running> {
        let (stop, stopped) = watch::channel(false);
        let (tell, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("quota")
            .enable_all()
            .build()
            .context("can't start the quota service's threads")?;
        std::thread::Builder::new()
            .name("quota".into())
            .spawn(move || {
                let served = runtime.block_on(self.serve(stopped));
                // What still hangs in Redis must not hold up the end.
                runtime.shutdown_background();
                let _ = tell.send(served);
            })
            .context("can't start the quota service's thread")?;
        Ok(Running { stop: Some(stop), ended })
    }

    async fn serve(self, stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let until = |mut stopped: watch::Receiver<bool>| async move {
            // A sender that is gone means the same.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let server = Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_routes(Routes::from(self.further).add_service(self.service.into_server()))
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                until(stopped.clone()),
            );
        let overdue = async {
            until(stopped).await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = server => served.context("the quota service failed"),
            () = overdue => Ok(()),
        }
    }
}

impl Running {
    /// Resolves when the service has ended by itself, which it does not.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        match (&mut self.ended).await {
            Ok(ended) => ended,
            Err(_) => anyhow::bail!("its thread is gone"),
        }
    }

    /// Lets requests under way end, and ends.
    ///
    /// # Errors
    /// When the socket failed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        self.ended().await
    }
}
