//! The protocol's rules, each as a test named for it, and what these tests share.
//!
//! Responses are looked at as a client sees them: encoded, then decoded by prost.

mod delta;
mod heartbeats;
mod hosts;
mod model;
mod order;
mod reconnect;
mod refusals;
mod sotw;
mod standing;

use std::collections::HashMap;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryResponse, DiscoveryResponse, Resource as Envelope,
};
use envoy_types::pb::google::rpc::Status;
use prost::{Message, Name as _};

use super::*;
use crate::snapshot::SnapshotBuilder;

/// Resources as `"name=body"`, separated by blanks.
fn snapshot(content: &[(&TypeUrl, &str)]) -> Arc<Snapshot> {
    let mut builder = Snapshot::builder();
    for (type_url, resources) in content {
        fill(&mut builder, type_url, resources);
    }
    Arc::new(builder.build())
}

fn fill(builder: &mut SnapshotBuilder, type_url: &TypeUrl, resources: &str) {
    for resource in resources.split_whitespace() {
        let (name, body) = resource.split_once('=').unwrap();
        builder.insert_versioned(type_url, name, body, body.as_bytes());
    }
}

/// A session and the client's side of it: nonces, and requests of both flavours in one notation.
struct Peer {
    session: Session,
    flavour: Flavour,
}

impl Peer {
    fn new(flavour: Flavour, snapshot: &Arc<Snapshot>) -> Peer {
        Peer::scoped(flavour, Scope::Aggregated, snapshot)
    }

    fn scoped(flavour: Flavour, scope: Scope, snapshot: &Arc<Snapshot>) -> Peer {
        let mut session = Session::new(flavour, scope, SessionLimits::default());
        assert!(session.on_snapshot(Some(snapshot.clone())).is_empty(), "nobody asked yet");
        Peer { session, flavour }
    }

    fn turn(&mut self, request: Request) -> (Vec<Seen>, Option<Answer>) {
        let turn = self.session.on_request(request, SystemTime::UNIX_EPOCH).unwrap();
        (turn.responses.iter().map(Seen::new).collect(), turn.answer)
    }

    fn send(&mut self, request: Request) -> Vec<Seen> {
        self.turn(request).0
    }

    /// State of the world: the whole list. Delta: subscribes to the list.
    fn ask(&mut self, type_url: &TypeUrl, names: &[&str]) -> Vec<Seen> {
        self.send(self.request(type_url, names, "", None))
    }

    fn unsubscribe(&mut self, type_url: &TypeUrl, names: &[&str]) -> Vec<Seen> {
        self.send(Request::Delta(DeltaDiscoveryRequest {
            type_url: type_url.to_string(),
            resource_names_unsubscribe: strings(names),
            ..Default::default()
        }))
    }

    /// Delta: an ACK. State of the world: one that keeps to the wildcard or, with `names`, to those.
    fn ack(&mut self, seen: &Seen, names: &[&str]) -> Vec<Seen> {
        let names = if self.flavour == Flavour::Delta { &[] } else { names };
        self.send(self.request(&TypeUrl::new(&seen.type_url), names, &seen.nonce, None))
    }

    fn nack(&mut self, seen: &Seen, names: &[&str]) -> Vec<Seen> {
        let names = if self.flavour == Flavour::Delta { &[] } else { names };
        self.send(self.request(&TypeUrl::new(&seen.type_url), names, &seen.nonce, Some("no good")))
    }

    fn publish(&mut self, snapshot: &Arc<Snapshot>) -> Vec<Seen> {
        self.session.on_snapshot(Some(snapshot.clone())).iter().map(Seen::new).collect()
    }

    fn status(&self, type_url: &TypeUrl) -> TypeStatus {
        self.session.status().find(|(known, _)| *known == type_url).unwrap().1.clone()
    }

    fn request(&self, type_url: &TypeUrl, names: &[&str], nonce: &str, error: Option<&str>) -> Request {
        let error_detail = error.map(|message| Status { message: message.into(), ..Default::default() });
        let (type_url, response_nonce) = (type_url.to_string(), nonce.to_owned());
        match self.flavour {
            Flavour::StateOfTheWorld => Request::StateOfTheWorld(DiscoveryRequest {
                type_url,
                response_nonce,
                error_detail,
                resource_names: strings(names),
                ..Default::default()
            }),
            Flavour::Delta => Request::Delta(DeltaDiscoveryRequest {
                type_url,
                response_nonce,
                error_detail,
                resource_names_subscribe: strings(names),
                ..Default::default()
            }),
        }
    }
}

/// A response as decoded by a client.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    type_url: String,
    version: String,
    nonce: String,
    /// `name=body` in delta, `body` in state of the world, where the name is the body's business.
    resources: Vec<String>,
    removed: Vec<String>,
}

impl Seen {
    fn new(response: &Response) -> Seen {
        let bytes = response.encode();
        assert_eq!(bytes.len(), response.encoded_len());
        match response.flavour {
            Flavour::StateOfTheWorld => {
                let message = DiscoveryResponse::decode(bytes).unwrap();
                let bodies = message.resources.iter().map(|any| {
                    if any.type_url == Envelope::type_url() {
                        return content(&Envelope::decode(&*any.value).unwrap(), &message.type_url);
                    }
                    assert_eq!(any.type_url, message.type_url);
                    String::from_utf8_lossy(&any.value).into_owned()
                });
                Seen {
                    resources: bodies.collect(),
                    removed: vec![],
                    type_url: message.type_url,
                    version: message.version_info,
                    nonce: message.nonce,
                }
            }
            Flavour::Delta => {
                let message = DeltaDiscoveryResponse::decode(bytes).unwrap();
                let named = message
                    .resources
                    .iter()
                    .map(|resource| format!("{}={}", resource.name, content(resource, &message.type_url)));
                Seen {
                    resources: named.collect(),
                    removed: message.removed_resources,
                    type_url: message.type_url,
                    version: message.system_version_info,
                    nonce: message.nonce,
                }
            }
        }
    }

    fn short(&self) -> &'static str {
        TypeUrl::new(&self.type_url).short()
    }
}

/// The body, or `~version` for a heartbeat.
fn content(resource: &Envelope, type_url: &str) -> String {
    match &resource.resource {
        Some(any) => {
            assert_eq!(any.type_url, type_url);
            String::from_utf8_lossy(&any.value).into_owned()
        }
        None => {
            assert!(resource.ttl.is_some(), "neither content nor a heartbeat: {resource:?}");
            format!("~{}", resource.version)
        }
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// The only one.
fn one(mut seen: Vec<Seen>) -> Seen {
    assert_eq!(seen.len(), 1, "expected one response: {seen:?}");
    seen.remove(0)
}

/// `CDS a=1 b=2 -gone`, …: responses in short.
fn short(seen: &[Seen]) -> Vec<String> {
    let line = |seen: &Seen| {
        let removed = seen.removed.iter().map(|name| format!("-{name}"));
        let words = seen.resources.iter().cloned().chain(removed);
        words.fold(seen.short().to_owned(), |line, word| line + " " + &word)
    };
    seen.iter().map(line).collect()
}
