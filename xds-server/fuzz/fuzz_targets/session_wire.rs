//! Any bytes as requests of one stream, against a snapshot that is there: decoded or refused, never a panic.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use xds_server::discovery::session::{Flavour, Request, Scope, Session, SessionLimits};
use xds_server::snapshot::{Snapshot, TypeUrl};

static SNAPSHOT: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
    let mut builder = Snapshot::builder();
    for type_url in
        [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER, TypeUrl::ROUTE, TypeUrl::VIRTUAL_HOST]
    {
        for name in ["a", "b", "c"] {
            builder.insert(&type_url, name, name.as_bytes());
        }
    }
    Arc::new(builder.build())
});

fuzz_target!(|requests: Vec<&[u8]>| {
    for flavour in [Flavour::Delta, Flavour::StateOfTheWorld] {
        let limits = SessionLimits { types: 8, subscription_bytes: 1 << 16, hosts: 64 };
        let mut session = Session::new(flavour, Scope::Aggregated, limits);
        session.on_snapshot(Some(SNAPSHOT.clone()));
        for bytes in &requests {
            let request = match flavour {
                Flavour::Delta => DeltaDiscoveryRequest::decode(*bytes).map(Request::Delta),
                Flavour::StateOfTheWorld => DiscoveryRequest::decode(*bytes).map(Request::StateOfTheWorld),
            };
            let Ok(request) = request else { continue };
            if session.on_request(request, SystemTime::UNIX_EPOCH).is_err() {
                break;
            }
        }
    }
});
