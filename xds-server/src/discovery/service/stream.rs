//! One stream: reads requests at their allowed rate, follows its group's snapshot, hands responses to the body.
//!
//! The body drives it, and drops it when the peer is gone. While the peer does not read, it waits to hand over and reads
//! nothing either; when it goes on, it takes the latest snapshot. Its events: a request, a later snapshot, heartbeats due,
//! the peer no longer in its group, or its connection to end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::google::protobuf::value::Kind;
use tokio::time::Instant;
use tonic::Status;

use super::DiscoveryService;
use super::body::Outbox;
use super::requests::Requests;
use crate::discovery::pace::Pace;
use crate::discovery::registry::{Proxy, Registration};
use crate::discovery::session::{Answer, Flavour, Request, Response, Scope, Session, Turn};
use crate::discovery::transport::Connection;

/// Kept of what a node says its software is, in bytes.
const AGENT_LIMIT: usize = 128;

/// Kept of a node's metadata: so many strings, each with a name and a text of so many bytes at most.
const LABELS: usize = 32;
const LABEL_LIMIT: usize = 256;

pub(super) struct Stream {
    pub service: DiscoveryService,
    pub flavour: Flavour,
    pub scope: Scope,
    pub connection: axum::http::Extensions,
}

impl Stream {
    pub async fn run(self, requests: Requests, out: Outbox) -> Result<(), Status> {
        let served = tokio::select! {
            served = self.serve(requests, &out) => served,
            () = self.service.until_ended(&self.connection) => Ok(()),
        };
        served.inspect_err(|status| {
            tracing::debug!(code = ?status.code(), reason = status.message(), "stream refused or broken");
        })
    }

    async fn serve(&self, mut requests: Requests, out: &Outbox) -> Result<(), Status> {
        let limits = &self.service.limits;
        let first = tokio::time::timeout(limits.first_request, requests.next()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no request came"))??;
        let Some(mut first) = first else { return Ok(()) };
        if let Some(fence) = &self.service.fence {
            fence().await;
        }
        let proxy = self.identify(&mut first)?;
        let node = Node { id: proxy.id.clone(), cluster: proxy.cluster.clone(), ..Node::default() };
        let group = proxy.group.clone();
        tokio::select! {
            served = self.follow(proxy, first, requests, out) => served,
            status = self.service.until_excluded(&node, &group, &self.connection) => Err(status),
        }
    }

    async fn follow(
        &self,
        proxy: Proxy,
        first: Request,
        mut requests: Requests,
        out: &Outbox,
    ) -> Result<(), Status> {
        let limits = &self.service.limits;
        let session = Arc::new(Mutex::new(Session::new(self.flavour, self.scope.clone(), limits.session)));
        let registration = self.service.registry.connect(proxy, session.clone());
        let session = || session.lock().unwrap_or_else(PoisonError::into_inner);
        let proxy = registration.proxy().clone();
        let mut snapshots = self.service.cache.watch_as(&proxy);
        session().on_snapshot(snapshots.latest());
        let _disconnect = Logged::connect(&registration);

        let mut pace = Pace::new(limits.requests_per_second, limits.request_burst);
        let mut next = Some(first);
        loop {
            let mut turn = match next.take() {
                Some(request) => {
                    pace.take();
                    let turn = session().on_request(request, SystemTime::now());
                    turn.map_err(|refusal| {
                        tracing::warn!(node = proxy.id, stream = proxy.stream, %refusal, "request refused");
                        Status::invalid_argument(refusal.to_string())
                    })?
                }
                None => Turn { responses: session().on_snapshot(snapshots.latest()), answer: None },
            };
            if let Some(Answer::Nack { type_url, version, message }) = &turn.answer {
                let (node, stream) = (&proxy.id, proxy.stream);
                tracing::warn!(node, stream, r#type = type_url.short(), %version, reason = message, "configuration refused");
            }
            let (heartbeats, due) = session().heartbeats(Instant::now().into_std());
            turn.responses.extend(heartbeats);
            let pushed = turn.responses.iter().filter(|response| !response.heartbeat);
            registration.report(&session(), pushed.map(|response| response.type_url.clone()), turn.answer);
            log_pushes(&turn.responses, &registration);
            out.hand_over(turn.responses).await;
            tokio::select! {
                request = pace.then(requests.next()) => match request? {
                    Some(request) => next = Some(request),
                    None => return Ok(()),
                },
                () = snapshots.changed() => {}
                () = heartbeat(due) => {}
            }
        }
    }

    /// Reads the node out of the stream's first request; later ones may leave it out (xDS protocol, "Node metadata").
    fn identify(&self, first: &mut Request) -> Result<Proxy, Status> {
        let node = match first {
            Request::StateOfTheWorld(request) => request.node.take(),
            Request::Delta(request) => request.node.take(),
        };
        let (node, group) = self.service.identify(node, &self.connection)?;
        Ok(Proxy {
            stream: 0,
            agent: agent(&node),
            labels: labels(&node),
            id: node.id,
            cluster: node.cluster,
            group,
            peer: self.peer(),
            flavour: self.flavour,
            scope: self.scope.clone(),
            since: SystemTime::now(),
        })
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.connection.get::<Connection>().map(Connection::remote)
    }
}

/// Waits until heartbeats are due; where there are none, for ever.
async fn heartbeat(due: Option<std::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn log_pushes(responses: &[Response], registration: &Registration) {
    let proxy = registration.proxy();
    for response in responses {
        tracing::debug!(
            node = proxy.id,
            stream = proxy.stream,
            r#type = response.type_url.short(),
            version = %response.version,
            resources = response.payload.len(),
            removed = response.removed.len(),
            "push"
        );
    }
}

/// The top-level strings of the node's metadata, the first of them in the order of their names.
fn labels(node: &Node) -> BTreeMap<String, String> {
    let fields = node.metadata.iter().flat_map(|metadata| &metadata.fields);
    let mut labels: BTreeMap<String, String> = fields
        .filter_map(|(name, value)| match &value.kind {
            Some(Kind::StringValue(text)) if name.len() <= LABEL_LIMIT && text.len() <= LABEL_LIMIT => {
                Some((name.clone(), text.clone()))
            }
            _ => None,
        })
        .collect();
    while labels.len() > LABELS {
        labels.pop_last();
    }
    labels
}

fn agent(node: &Node) -> String {
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .as_ref()
            .map_or_else(String::new, |v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch)),
        None => String::new(),
    };
    let mut agent = format!("{} {version}", node.user_agent_name);
    agent.truncate(agent.floor_char_boundary(AGENT_LIMIT));
    agent.trim().to_owned()
}

/// Logs a stream's beginning, and its end when dropped.
struct Logged<'a>(&'a Registration);

impl<'a> Logged<'a> {
    fn connect(registration: &'a Registration) -> Logged<'a> {
        let proxy = registration.proxy();
        let (group, flavour, scope, agent) = (&proxy.group, proxy.flavour, &proxy.scope, &proxy.agent);
        let peer = proxy.peer.map(tracing::field::display);
        tracing::info!(
            node = proxy.id,
            stream = proxy.stream,
            group,
            ?flavour,
            ?scope,
            agent,
            peer,
            "connected"
        );
        Logged(registration)
    }
}

impl Drop for Logged<'_> {
    fn drop(&mut self) {
        let proxy = self.0.proxy();
        tracing::info!(node = proxy.id, stream = proxy.stream, group = proxy.group, "disconnected");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_strings_of_the_metadata_within_bounds() {
        use envoy_types::pb::google::protobuf::{Struct, Value};
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
        let mut fields = std::collections::HashMap::from([
            ("stage".to_owned(), text("canary")),
            ("number".to_owned(), Value { kind: Some(Kind::NumberValue(1.0)) }),
            ("z-long".to_owned(), text(&"x".repeat(LABEL_LIMIT + 1))),
        ]);
        let node = |fields| Node { metadata: Some(Struct { fields }), ..Default::default() };
        let expected = BTreeMap::from([("stage".to_owned(), "canary".to_owned())]);
        assert_eq!(labels(&node(fields.clone())), expected);
        fields.extend((0..1000).map(|n| (format!("more-{n:04}"), text(""))));
        assert_eq!(labels(&node(fields)).len(), LABELS);
    }

    #[test]
    fn an_agent_is_its_name_and_version_cut_short() {
        let node = Node {
            user_agent_name: "ü".repeat(100),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion("1".into())),
            ..Default::default()
        };
        assert!(agent(&node).len() <= AGENT_LIMIT);
    }
}
