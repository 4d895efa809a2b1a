//! Any client and any publisher on one stream: whatever they do in whatever order, the session neither panics nor sends
//! a second response of a type before the first is answered, and what it sends decodes to what it says.
#![no_main]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arbitrary::Arbitrary;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use xds_server::discovery::session::{Flavour, Request, Response, Scope, Session, SessionLimits};
use xds_server::snapshot::{Snapshot, SnapshotBuilder, TypeUrl};

const TYPES: [TypeUrl; 6] = [
    TypeUrl::CLUSTER,
    TypeUrl::ENDPOINT,
    TypeUrl::LISTENER,
    TypeUrl::ROUTE,
    TypeUrl::SECRET,
    TypeUrl::EXTENSION,
];
const TTL: Duration = Duration::from_secs(30);
const NAMES: [&str; 6] = ["*", "", "a", "b", "c", "d"];

#[derive(Debug, Arbitrary)]
enum Step {
    Ask { kind: u8, subscribe: Vec<u8>, unsubscribe: Vec<u8>, initial: Vec<(u8, u8)>, nonce: Nonce, error: bool },
    Publish { changes: Vec<(u8, u8, Option<u8>)>, replace: bool },
    Withdraw,
    Wait { seconds: u8 },
}

#[derive(Debug, Arbitrary)]
enum Nonce {
    None,
    Last,
    Stale,
}

fn pick<T: Clone>(from: &[T], index: u8) -> T {
    from[usize::from(index) % from.len()].clone()
}

fuzz_target!(|input: (bool, Option<u8>, Vec<Step>)| {
    let (delta, only, steps) = input;
    let flavour = if delta { Flavour::Delta } else { Flavour::StateOfTheWorld };
    let scope = only.map_or(Scope::Aggregated, |kind| Scope::Only(pick(&TYPES, kind)));
    let mut session = Session::new(flavour, scope.clone(), SessionLimits { types: 4, subscription_bytes: 1 << 12, hosts: 4 });
    let mut now = Instant::now();
    let mut published: Arc<Snapshot> = Arc::default();
    let mut unanswered: HashMap<String, String> = HashMap::new();
    let mut last: HashMap<String, String> = HashMap::new();
    for step in steps {
        let responses = match step {
            Step::Ask { kind, subscribe, unsubscribe, initial, nonce, error } => {
                let type_url = match &scope {
                    Scope::Only(only) => only.to_string(),
                    Scope::Aggregated => pick(&TYPES, kind).to_string(),
                };
                let names = |list: Vec<u8>| list.into_iter().map(|name| pick(&NAMES, name).to_owned()).collect();
                let response_nonce = match nonce {
                    Nonce::None => String::new(),
                    Nonce::Last => last.get(&type_url).cloned().unwrap_or_default(),
                    Nonce::Stale => "0".to_owned(),
                };
                if unanswered.get(&type_url) == Some(&response_nonce) {
                    unanswered.remove(&type_url);
                }
                let error_detail = error.then(|| Status { message: "no".into(), ..Status::default() });
                let request = match flavour {
                    Flavour::StateOfTheWorld => Request::StateOfTheWorld(DiscoveryRequest {
                        type_url,
                        response_nonce,
                        error_detail,
                        version_info: initial.first().map(|(_, version)| version.to_string()).unwrap_or_default(),
                        resource_names: names(subscribe),
                        ..DiscoveryRequest::default()
                    }),
                    Flavour::Delta => Request::Delta(DeltaDiscoveryRequest {
                        type_url,
                        response_nonce,
                        error_detail,
                        resource_names_subscribe: names(subscribe),
                        resource_names_unsubscribe: names(unsubscribe),
                        initial_resource_versions: initial
                            .into_iter()
                            .map(|(name, version)| (pick(&NAMES, name).to_owned(), version.to_string()))
                            .collect(),
                        ..DeltaDiscoveryRequest::default()
                    }),
                };
                match session.on_request(request, SystemTime::UNIX_EPOCH) {
                    Ok(turn) => turn.responses,
                    // The stream ends.
                    Err(_) => return,
                }
            }
            Step::Publish { changes, replace } => {
                let mut builder = match replace {
                    true => SnapshotBuilder::replacing(&published),
                    false => SnapshotBuilder::editing(&published),
                };
                for (kind, name, body) in changes {
                    let (type_url, name) = (pick(&TYPES, kind), pick(&NAMES[1..], name));
                    match body {
                        // One of the names expires.
                        Some(body) if name == "d" => drop(builder.insert_expiring(&type_url, name, TTL, &[body])),
                        Some(body) => drop(builder.insert_versioned(&type_url, name, &body.to_string(), &[body])),
                        None => drop(builder.remove(&type_url, name)),
                    }
                }
                published = Arc::new(builder.build());
                session.on_snapshot(Some(published.clone()))
            }
            Step::Withdraw => session.on_snapshot(None),
            Step::Wait { seconds } => {
                now += Duration::from_secs(seconds.into());
                let (responses, due) = session.heartbeats(now);
                assert!(due.is_none_or(|due| due > now), "a timer that is over at once");
                responses
            }
        };
        for response in responses {
            look(&response, flavour);
            let type_url = response.type_url.to_string();
            let before = unanswered.insert(type_url.clone(), response.nonce.to_string());
            assert!(before.is_none(), "two unanswered responses of {type_url}");
            last.insert(type_url, response.nonce.to_string());
        }
    }
});

fn look(response: &Response, flavour: Flavour) {
    let bytes = response.encode();
    assert_eq!(bytes.len(), response.encoded_len());
    match flavour {
        Flavour::Delta => {
            let decoded = DeltaDiscoveryResponse::decode(bytes).expect("a response decodes");
            assert_eq!(decoded.resources.len(), response.payload.len());
            let removed: Vec<&str> = decoded.removed_resources.iter().map(String::as_str).collect();
            let both = decoded.resources.iter().any(|resource| removed.contains(&&*resource.name));
            assert!(!both, "sent and removed at once");
        }
        Flavour::StateOfTheWorld => {
            let decoded = DiscoveryResponse::decode(bytes).expect("a response decodes");
            assert_eq!(decoded.resources.len(), response.payload.len());
        }
    }
}
