//! Who is connected and what each client has of its resources, for programs (CSDS).
//!
//! `envoy.service.status.v3.ClientStatusDiscoveryService`, as a management server serves it: one entry a proxy, and in
//! it one a resource with its status, version and, where the proxy refused it, why. Everything is computed when it is
//! asked for, out of what the sessions keep anyway.
//!
//! Who may ask for whom is [`Visibility`]: under mutual TLS a certificate decides the group, so no proxy sees more than
//! it could fetch for itself. Secrets are listed without their content.
//!
//! Not here: the deprecated dumps by type (`xds_config`), and matching by node metadata, which is not kept.

mod answer;
mod node_matcher;

use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::{
    ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::status::v3::{ClientStatusRequest, ClientStatusResponse};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::discovery::DiscoveryService;
use answer::{Answer, Asked};
use node_matcher::NodeMatchers;

/// Answers made at a time, all peers together; more wait their turn.
const AT_A_TIME: usize = 2;

/// Whose status a peer may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Visibility {
    /// Nobody's.
    Off,
    /// That of proxies in its own group.
    OwnGroup,
    /// Everybody's.
    All,
}

/// How large one answer may be; a larger one is refused, since a part would look like the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerLimits {
    /// Resources, each counted as often as a proxy subscribes to it.
    pub resources: usize,
    /// Bytes of their content.
    pub content_bytes: usize,
}

impl Default for AnswerLimits {
    fn default() -> AnswerLimits {
        AnswerLimits { resources: 200_000, content_bytes: 64 << 20 }
    }
}

/// Tells the status of clients. Clones are the same service.
#[derive(Debug, Clone)]
pub struct ClientStatusService {
    discovery: DiscoveryService,
    visibility: Visibility,
    limits: AnswerLimits,
    turns: Arc<Semaphore>,
}

impl ClientStatusService {
    /// Tells the status of the clients of `discovery`.
    pub fn new(
        discovery: DiscoveryService,
        visibility: Visibility,
        limits: AnswerLimits,
    ) -> ClientStatusService {
        ClientStatusService { discovery, visibility, limits, turns: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// The gRPC service, to be added to the discovery service's routes.
    pub fn into_server(self) -> ClientStatusDiscoveryServiceServer<ClientStatusService> {
        ClientStatusDiscoveryServiceServer::new(self)
    }

    async fn answer(
        &self,
        connection: &Extensions,
        request: ClientStatusRequest,
    ) -> Result<ClientStatusResponse, Status> {
        let group = match self.visibility {
            Visibility::Off => return Err(Status::permission_denied("client status is switched off")),
            Visibility::OwnGroup => Some(self.discovery.identify(request.node, connection)?.1),
            Visibility::All => None,
        };
        let asked = Asked {
            group,
            nodes: NodeMatchers::new(&request.node_matchers)?,
            with_content: !request.exclude_resource_contents,
        };
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Status::unavailable("shutting down"))?;
        let (registry, limits) = (self.discovery.registry().clone(), self.limits);
        // It may list a hundred thousand resources, and streams are to be served meanwhile.
        let made = tokio::task::spawn_blocking(move || {
            let answer = Answer::make(&registry, &asked, limits);
            drop(turn);
            answer
        });
        made.await.map_err(|_| Status::internal("the answer could not be made"))?
    }
}

#[tonic::async_trait]
impl ClientStatusDiscoveryService for ClientStatusService {
    type StreamClientStatusStream = Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        let permit = self.discovery.admit()?;
        let (_, connection, mut requests) = request.into_parts();
        let (out, responses) = mpsc::channel(1);
        let service = self.clone();
        tokio::spawn(async move {
            let connection = &connection;
            let answers = async {
                // The node is that of the first request; later ones may leave it out.
                let mut node = None;
                while let Some(mut request) = requests.message().await? {
                    request.node = node.get_or_insert(request.node).clone();
                    let answer = service.answer(connection, request).await?;
                    if out.send(Ok(answer)).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            let ended = tokio::select! {
                ended = answers => ended,
                () = out.closed() => Ok(()),
                () = service.discovery.until_ended(connection) => Ok(()),
            };
            drop(permit);
            if let Err(status) = ended {
                drop(out.send(Err(status)).await);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        let (_, connection, request) = request.into_parts();
        self.answer(&connection, request).await.map(Response::new)
    }
}
