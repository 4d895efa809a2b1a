//! Which path is which flavour and type: the whole surface of the discovery services as one table.

use axum::Router;
use axum::extract::Request;
use axum::routing::post;
use tonic::Status;

use super::DiscoveryService;
use crate::discovery::session::{Flavour, Scope};
use crate::snapshot::TypeUrl;

/// Service, noun of its `Stream…` and `Delta…` methods, and the type it serves. VHDS has no state-of-the-world method.
const SERVICES: [(&str, &str, TypeUrl); 8] = [
    ("envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters", TypeUrl::CLUSTER),
    ("envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints", TypeUrl::ENDPOINT),
    ("envoy.service.secret.v3.SecretDiscoveryService", "Secrets", TypeUrl::SECRET),
    ("envoy.service.extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs", TypeUrl::EXTENSION),
    ("envoy.service.listener.v3.ListenerDiscoveryService", "Listeners", TypeUrl::LISTENER),
    ("envoy.service.route.v3.RouteDiscoveryService", "Routes", TypeUrl::ROUTE),
    ("envoy.service.route.v3.VirtualHostDiscoveryService", "VirtualHosts", TypeUrl::VIRTUAL_HOST),
    ("envoy.service.runtime.v3.RuntimeDiscoveryService", "Runtime", TypeUrl::RUNTIME),
];

const AGGREGATED: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// All methods; any other path is UNIMPLEMENTED.
pub(super) fn router(service: &DiscoveryService) -> Router {
    let mut router =
        Router::new().fallback(async || Status::unimplemented("").into_http::<axum::body::Body>());
    for (flavour, prefix) in [(Flavour::StateOfTheWorld, "Stream"), (Flavour::Delta, "Delta")] {
        let path = format!("/{AGGREGATED}/{prefix}AggregatedResources");
        router = route(router, service, &path, flavour, Scope::Aggregated);
        for (name, noun, type_url) in SERVICES {
            if flavour == Flavour::Delta || type_url != TypeUrl::VIRTUAL_HOST {
                router = route(
                    router,
                    service,
                    &format!("/{name}/{prefix}{noun}"),
                    flavour,
                    Scope::Only(type_url),
                );
            }
        }
    }
    router
}

fn route(router: Router, service: &DiscoveryService, path: &str, flavour: Flavour, scope: Scope) -> Router {
    let service = service.clone();
    router.route(path, post(async move |request: Request| service.open(flavour, scope, request)))
}
