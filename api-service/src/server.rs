//! One listening port: accepts connections within limits, and drains them.
//!
//! Our own accept loop instead of `axum::serve`, which has no limit on connections, no timeout on headers
//! and no deadline on draining. What breaks HTTP itself is answered by hyper, without a body: 400 for bad
//! syntax, 431 for headers past [`MAX_HEADERS`] or [`MAX_HEADER_BYTES`].

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Header lines of a request at most.
pub const MAX_HEADERS: usize = 100;
/// Bytes of the head of a request at most.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;

/// How many connections, and how long they may be idle or drain.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Open at once; more wait in the listen backlog.
    pub connections: usize,
    /// For the headers of the next request.
    pub keep_alive: Duration,
    /// For requests in flight once the port stops.
    pub drain: Duration,
}

/// Serves until `stop` is true, then closes the listener, lets requests in flight finish and returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    mut stop: watch::Receiver<bool>,
) {
    let at_once = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let stopped = async move {
        // An error is the sender gone, which means stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::pin!(stopped);
    // Events: stop, a connection comes, a connection ends.
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &at_once) => {
                let (stream, permit) = accepted;
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits.keep_alive)
                    .max_headers(MAX_HEADERS)
                    .max_header_size(MAX_HEADER_BYTES)
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
                let connection = graceful.watch(connection);
                connections.spawn(async move {
                    // A client that breaks off is no news.
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "connection broke off");
                    }
                    drop(permit);
                });
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "drain timeout passed, closing connections");
    }
    connections.shutdown().await;
}

/// Waits for room first, so that connections past the limit stay in the kernel's backlog.
async fn accept(
    listener: &TcpListener,
    at_once: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let permit = Arc::clone(at_once).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and written at once; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                return (stream, permit);
            }
            Err(error) => {
                // Mostly out of file descriptors: trying again at once would spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
