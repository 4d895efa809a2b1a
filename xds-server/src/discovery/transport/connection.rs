//! One connection: TLS handshake, HTTP/2, and the end of both.
//!
//! It ends for one of the reasons in [`over`]. The peer is told so first (GOAWAY), then its streams end with status OK:
//! an Envoy opens the next stream on a new connection, at once, and with all it has (`initial_resource_versions`).

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;

use super::admission::Admitted;
use super::{DRAIN, Identity, Refusal, Trust};
use crate::discovery::DiscoveryService;
use crate::discovery::pace::Pace;

/// What a stream may know of its connection; in the extensions of its request. Clones are the same.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    remote: SocketAddr,
    identity: Option<Identity>,
    over: watch::Sender<bool>,
}

impl Connection {
    /// The other end.
    pub fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    /// Whom the client's certificate is for, if one was asked for.
    pub fn identity(&self) -> Option<&Identity> {
        self.0.identity.as_ref()
    }

    /// Resolves when its streams are to end.
    pub(in crate::discovery) async fn until_over(&self) {
        // The sender is ours.
        drop(self.0.over.subscribe().wait_for(|over| *over).await);
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(
    service: DiscoveryService,
    routes: Routes,
    stream: TcpStream,
    remote: SocketAddr,
    admitted: Admitted,
) {
    // Responses are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(mut trust) = service.trust() else {
        let served = Served { service, routes, remote, admitted, identity: None, trust: None };
        return served.run(stream).await;
    };
    let Trust { config, asks_clients, generation } = trust.borrow_and_update().clone();
    let handshake = timeout(service.limits().handshake, TlsAcceptor::from(config).accept(stream));
    let refuse = |reason: &str| service.admission().refuse(remote, Refusal::Handshake, reason);
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return refuse(&format!("TLS: {error}")),
        Err(_) => return refuse("TLS: the handshake took too long"),
    };
    let identity = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        Some(certificate) if asks_clients => match Identity::read(certificate) {
            Ok(identity) => Some(identity),
            Err(reason) => return refuse(&reason),
        },
        _ => None,
    };
    let trust = Some((trust, generation));
    Served { service, routes, remote, admitted, identity, trust }.run(stream).await;
}

struct Served {
    service: DiscoveryService,
    routes: Routes,
    remote: SocketAddr,
    admitted: Admitted,
    identity: Option<Identity>,
    trust: Option<(watch::Receiver<Trust>, u64)>,
}

impl Served {
    async fn run(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let limits = self.service.limits().clone();
        let until = self.identity.as_ref().map(|identity| identity.until);
        let inner =
            Inner { remote: self.remote, identity: self.identity.take(), over: watch::Sender::new(false) };
        let connection = Connection(Arc::new(inner));
        let (spoke, mut speaks) = watch::channel(false);
        let requests = Requests {
            routes: self.routes.clone(),
            connection: connection.clone(),
            pace: Arc::new(Mutex::new(Pace::new(limits.streams_per_second, limits.stream_burst))),
            spoke: Arc::new(spoke),
        };
        let http = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_per_connection)
            // More does not fit into HTTP/2's numbers.
            .max_send_buf_size(limits.send_buffer_bytes.min(1 << 30))
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout)
            .serve_connection(TokioIo::new(stream), requests);
        let mut http = pin!(http);
        let remote = self.remote;
        let silent = async move {
            sleep(limits.first_request).await;
            "no request came"
        };
        let (service, trust) = (self.service, self.trust);
        let mut over = pin!(over(&service, until, trust));
        let (mut silent, mut silence) = (pin!(silent), true);
        let mut deadline = None;
        // Events: its first request, HTTP/2 moves or ends, no request in time, a reason to end it, no end in time.
        loop {
            let reason = tokio::select! {
                // In this order: it has spoken before it is answered.
                biased;
                _ = speaks.wait_for(|spoke| *spoke), if silence => {
                    silence = false;
                    self.admitted.spoke();
                    continue;
                }
                ended = &mut http => {
                    if let Err(error) = ended {
                        // A peer that breaks off is no news.
                        tracing::debug!(peer = %remote, %error, "connection broke off");
                    }
                    return;
                }
                reason = &mut silent, if silence => {
                    tracing::debug!(peer = %remote, reason, "connection closed");
                    return;
                }
                reason = &mut over, if deadline.is_none() => reason,
                () = at(deadline) => {
                    tracing::debug!(peer = %remote, "connection did not end in time, and is closed");
                    return;
                }
            };
            tracing::info!(peer = %remote, reason, "connection ends; its proxy is to connect anew");
            // In this order: a stream that is opened again at once must not be opened here.
            http.as_mut().graceful_shutdown();
            connection.0.over.send_replace(true);
            deadline = Some(Instant::now() + DRAIN);
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Resolves when the connection is to end, with the reason.
async fn over(
    service: &DiscoveryService,
    certificate: Option<SystemTime>,
    trust: Option<(watch::Receiver<Trust>, u64)>,
) -> &'static str {
    let limits = service.limits();
    let old = async {
        match limits.max_connection_age {
            Some(age) => sleep(age.mul_f64(0.9 + 0.2 * random())).await,
            None => pending().await,
        }
    };
    let outdated = async {
        match certificate {
            // The clock may be set meanwhile, but the certificate was valid just now.
            Some(until) => sleep(until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)).await,
            None => pending().await,
        }
    };
    let distrusted = async {
        let Some((mut trust, generation)) = trust else { return pending().await };
        if trust.wait_for(|trust| trust.generation != generation).await.is_err() {
            return pending().await;
        }
        // Everybody is concerned, and not to come back at once.
        sleep(limits.reconnect_spread.mul_f64(random())).await;
    };
    tokio::select! {
        () = old => "it has reached its maximum age",
        () = outdated => "the client's certificate has expired",
        () = distrusted => "the trusted authorities have changed",
        () = service.until_stopped() => "the server stops",
    }
}

/// From 0 to 1, and 0.5 where the system has no random numbers.
fn random() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

/// The requests of one connection, at their allowed rate.
struct Requests {
    routes: Routes,
    connection: Connection,
    pace: Arc<Mutex<Pace>>,
    spoke: Arc<watch::Sender<bool>>,
}

type Answer =
    Pin<Box<dyn Future<Output = Result<Response<tonic::body::Body>, std::convert::Infallible>> + Send>>;

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = Answer;

    fn call(&self, mut request: Request<Incoming>) -> Answer {
        request.extensions_mut().insert(self.connection.clone());
        self.spoke.send_if_modified(|spoke| !std::mem::replace(spoke, true));
        let turn = self.pace.lock().unwrap_or_else(PoisonError::into_inner).take_turn();
        let routes = TowerToHyperService::new(self.routes.clone());
        Box::pin(async move {
            // Those that wait are as many as a connection may have streams.
            if let Some(turn) = turn {
                sleep_until(turn).await;
            }
            hyper::service::Service::call(&routes, request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{Limits, Registry, SnapshotCache};

    #[tokio::test(start_paused = true)]
    async fn ages_differ_by_a_tenth_so_that_not_all_proxies_come_back_at_once() {
        let age = Duration::from_secs(1_000);
        let limits = Limits { max_connection_age: Some(age), ..Limits::default() };
        let service = DiscoveryService::new(SnapshotCache::new(), Registry::new(), limits);
        let mut ages = Vec::new();
        for _ in 0..100 {
            let start = Instant::now();
            over(&service, None, None).await;
            ages.push(start.elapsed().as_secs());
        }
        assert!(ages.iter().all(|age| (900..=1_100).contains(age)), "{ages:?}");
        let (youngest, oldest) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
        assert!(oldest - youngest > 100, "{ages:?}");
    }
}
