//! The gRPC around the sessions: one task a stream, which is its response's body; nothing shared that a slow peer could
//! hold.
//!
//! The methods of ADS and of each type's own service are one handler with different arguments. Responses are written as
//! raw frames (`body`) and not through a codec, so that the bytes a snapshot encoded once are what goes out, and a
//! large response is copied out only as fast as its client reads.
//!
//! Not here: the protocol's rules ([`super::session`]), connections and TLS ([`super::transport`]), and the Fetch (REST)
//! methods.

mod body;
mod methods;
mod requests;
mod stream;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::service::Routes;
use tonic::{Extensions, Status};

use super::session::{Flavour, Scope};
use super::transport::{Admission, Connection, Identity, Refusal, Trust};
use super::{Limits, Registry, SnapshotCache};

/// Who a stream's first request says it is, and what the connection knows of it.
#[derive(Debug)]
pub struct Peer<'a> {
    /// `node` of the first request; its id is not empty.
    pub node: &'a Node,
    /// What the transport knows: a [`Connection`].
    pub connection: &'a Extensions,
}

impl Peer<'_> {
    /// Whom the peer's certificate is for, if one was asked for and verified.
    pub fn identity(&self) -> Option<&Identity> {
        self.connection.get::<Connection>().and_then(Connection::identity)
    }
}

/// Chooses the group whose snapshot a peer is served, or refuses it with a reason it is told.
pub type Grouping = Arc<dyn Fn(&Peer<'_>) -> Result<String, String> + Send + Sync>;

/// What every stream waits for before it is served, so that it is served nothing that is already old elsewhere.
pub type Fence = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The discovery services. Clones are the same service.
#[derive(Clone)]
pub struct DiscoveryService {
    cache: SnapshotCache,
    registry: Registry,
    limits: Arc<Limits>,
    grouping: Grouping,
    fence: Option<Fence>,
    regrouped: Option<watch::Receiver<u64>>,
    trust: Option<watch::Receiver<Trust>>,
    admission: Admission,
    streams: Arc<Semaphore>,
    ended: Arc<watch::Sender<bool>>,
}

impl DiscoveryService {
    /// Serves `cache` to whoever connects and reports to `registry`. The group is the node's cluster.
    pub fn new(cache: SnapshotCache, registry: Registry, limits: Limits) -> DiscoveryService {
        let limits = Arc::new(limits);
        DiscoveryService {
            cache,
            registry,
            regrouped: None,
            trust: None,
            admission: Admission::new(limits.clone()),
            streams: Arc::new(Semaphore::new(limits.streams.min(Semaphore::MAX_PERMITS))),
            limits,
            grouping: Arc::new(|peer| Ok(peer.node.cluster.clone())),
            fence: None,
            ended: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Chooses groups another way, by certificate say.
    pub fn with_grouping(self, grouping: Grouping) -> DiscoveryService {
        DiscoveryService { grouping, ..self }
    }

    /// Has every stream wait before it is served.
    pub fn with_fence(self, fence: Option<Fence>) -> DiscoveryService {
        DiscoveryService { fence, ..self }
    }

    /// Looks again at who is in which group whenever the number changes, and ends the streams that are no longer.
    pub fn regrouped_by(self, changes: watch::Receiver<u64>) -> DiscoveryService {
        DiscoveryService { regrouped: Some(changes), ..self }
    }

    /// Speaks TLS, with what the latest value says.
    pub fn with_tls(self, trust: watch::Receiver<Trust>) -> DiscoveryService {
        DiscoveryService { trust: Some(trust), ..self }
    }

    /// The methods, to which other gRPC services may be added.
    pub fn routes(&self) -> Routes {
        methods::router(self).into()
    }

    /// The snapshots it serves.
    pub fn cache(&self) -> &SnapshotCache {
        &self.cache
    }

    /// Who is connected.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What one peer may take.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Who a stream's first request says it is, and its group: the same for every service of this server.
    ///
    /// # Errors
    /// What the stream is to be ended with.
    pub fn identify(&self, node: Option<Node>, connection: &Extensions) -> Result<(Node, String), Status> {
        let node = node.filter(|node| !node.id.is_empty());
        let node = node.ok_or_else(|| Status::invalid_argument("the first request must carry node.id"))?;
        let limit = self.limits.node_id_bytes;
        let check = |names: [&String; 2]| match names.iter().any(|name| name.len() > limit) {
            true => {
                Err(Status::invalid_argument(format!("node.id or node.cluster is longer than {limit} bytes")))
            }
            false => Ok(()),
        };
        check([&node.id, &node.cluster])?;
        let group = self.group(&node, connection).map_err(|reason| {
            let peer =
                connection.get::<Connection>().map(|connection| tracing::field::display(connection.remote()));
            tracing::warn!(node = node.id, cluster = node.cluster, peer, reason, "proxy refused");
            Status::permission_denied(reason)
        })?;
        check([&node.id, &group])?;
        Ok((node, group))
    }

    /// Counts a stream against [`Limits::streams`] until the result is dropped.
    ///
    /// # Errors
    /// When too many are open.
    pub fn admit(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            tracing::warn!(limit = self.limits.streams, "stream refused: too many are open");
            Status::resource_exhausted("too many streams are open")
        })
    }

    fn group(&self, node: &Node, connection: &Extensions) -> Result<String, String> {
        (self.grouping)(&Peer { node, connection })
    }

    /// Resolves when the streams of a connection are to end.
    pub async fn until_ended(&self, connection: &Extensions) {
        match connection.get::<Connection>() {
            Some(connection) => connection.until_over().await,
            None => self.until_stopped().await,
        }
    }

    /// Resolves when a node is no longer in the group that it was [identified](Self::identify) with, with what its
    /// stream is to be ended with.
    pub async fn until_excluded(&self, node: &Node, group: &str, connection: &Extensions) -> Status {
        let Some(mut regrouped) = self.regrouped.clone() else { return std::future::pending().await };
        loop {
            match self.group(node, connection) {
                Ok(now) if now == group => {}
                Ok(now) => return Status::unavailable(format!("the proxy is in group `{now}` now")),
                Err(reason) => {
                    tracing::warn!(
                        node = node.id,
                        cluster = node.cluster,
                        reason,
                        "proxy refused from now on"
                    );
                    return Status::permission_denied(reason);
                }
            }
            if regrouped.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Resolves when every stream is to [`end`](Self::end).
    pub(super) async fn until_stopped(&self) {
        // The sender is ours.
        drop(self.ended.subscribe().wait_for(|ended| *ended).await);
    }

    pub(super) fn trust(&self) -> Option<watch::Receiver<Trust>> {
        self.trust.clone()
    }

    pub(super) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.admission.open()
    }

    /// Connections that were refused since the start, by why.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        self.admission.refusals()
    }

    /// Ends every stream, now and from now on, with status OK: clients reconnect, here or elsewhere.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Serves the discovery methods on a bound listener until `shutdown`; see [`serve_routes`](Self::serve_routes).
    pub async fn serve_with_listener(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        self.serve_routes(self.routes(), listener, shutdown).await;
    }

    /// Opens a stream: it reads `request`'s messages, and its answer's body drives it and writes what it hands over.
    fn open(
        &self,
        flavour: Flavour,
        scope: Scope,
        request: axum::extract::Request,
    ) -> axum::response::Response {
        let permit = match self.admit() {
            Ok(permit) => permit,
            Err(status) => return status.into_http(),
        };
        let (parts, body) = request.into_parts();
        let requests = requests::Requests::new(body, flavour, self.limits.request_bytes);
        let stream = stream::Stream { service: self.clone(), flavour, scope, connection: parts.extensions };
        body::response(|outbox| async move {
            let _until_the_end = permit;
            stream.run(requests, outbox).await
        })
    }
}

impl std::fmt::Debug for DiscoveryService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiscoveryService").field("limits", &self.limits).finish_non_exhaustive()
    }
}
