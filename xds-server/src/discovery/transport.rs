//! The connections under the streams: who may connect, TLS, HTTP/2, and for how long.
//!
//! ```text
//!   accept ─► admission (how many, from where, how fast) ─► TLS handshake ─► HTTP/2 ─► routes ─► streams
//!                                                            └ identity: names of the client's certificate
//! ```
//!
//! One task a connection, its handshake included, so a slow one holds up no other. Not tonic's server: it has no limit on
//! connections, and its maximum age leaves the streams of an aged connection open, and with them the connection.
//!
//! Not here: which certificates there are (`source::port_tls`), which group an identity belongs to (`grouping`).

mod admission;
mod connection;
mod identity;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tonic::service::Routes;

pub(super) use admission::Admission;
pub use admission::Refusal;
pub use connection::Connection;
pub use identity::Identity;

use super::DiscoveryService;

/// How long an ended connection waits for its peer to take the last bytes.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after a failure to accept: mostly out of file descriptors, and trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that may wait to be accepted; the system's own limit (`net.core.somaxconn`) is lower, mostly. Thousands of
/// proxies come back at once, and one for which there is no room tries again after a second, then after two, …
const BACKLOG: u32 = 16_384;

/// Binds a port for [`DiscoveryService::serve_routes`]. Must be called within a runtime.
///
/// # Errors
/// When the system refuses.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As elsewhere on Unix: connections of a server that just ended hold up no restart.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What the port shows, and whom it believes.
#[derive(Debug, Clone)]
pub struct Trust {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    /// Whether clients must show a certificate.
    pub asks_clients: bool,
    /// Grows when other authorities are believed than before: connections of before end.
    pub generation: u64,
}

impl DiscoveryService {
    /// Serves `routes` on a bound listener. At `shutdown` it stops accepting, ends all streams and returns once they
    /// are closed, or after 5 seconds.
    pub async fn serve_routes(
        &self,
        routes: Routes,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) {
        let routes = routes.prepare();
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        // Events: shutdown, a connection ends, a connection comes.
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => {
                        if let Some(admitted) = self.admission().admit(remote) {
                            let serve = connection::serve(self.clone(), routes.clone(), stream, remote, admitted);
                            connections.spawn(serve);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "can't accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        drop(listener);
        self.end();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::info!(connections = connections.len(), "connections that did not end are closed");
        }
        connections.shutdown().await;
    }
}
