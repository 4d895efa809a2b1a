//! HTTP: the only part that knows axum, statuses and problem documents.
//!
//! A request passes [`answer`] (request id, log, metrics, panics, problem documents), then [`limits`] (time,
//! number), then its handler. Handlers parse with [`extract`], find the caller with [`identity`], call the
//! domain and return its error as a [`problem::Problem`]. Routes and OpenAPI come from one declaration, so
//! neither can lack what the other has.

mod accounts;
mod answer;
mod catalogue;
mod etag;
mod extract;
mod health;
mod identity;
mod introspection;
mod jwks;
mod keys;
mod limits;
mod openapi;
mod problem;
mod request_id;
mod revocations;
mod sessions;
mod statistics;
mod views;

use std::sync::Arc;

use axum::{Extension, Router, middleware};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::accounts::AccountService;
use crate::api_keys::KeyService;
use crate::catalogue::CatalogueService;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::revocations::RevocationService;
use crate::sessions::SessionService;
use crate::sessions::access_token::AccessTokens;
use crate::settings::IdentityMode;
use crate::statistics::StatisticsService;
use crate::store::Health;

pub use jwks::Jwks;
pub use limits::RequestLimits;

use limits::Port;
use problem::Problem;

/// What handlers reach.
pub struct App {
    pub accounts: Arc<AccountService>,
    pub sessions: SessionService,
    pub keys: KeyService,
    pub revocations: RevocationService,
    pub catalogue: CatalogueService,
    pub statistics: StatisticsService,
    pub access_tokens: Arc<AccessTokens>,
    pub jwks: Jwks,
    pub health: Arc<dyn Health>,
    pub identity: IdentityMode,
    pub clock: Clock,
    pub metrics: Metrics,
    pub limits: RequestLimits,
}

type Shared = Arc<App>;

impl App {
    /// Whether `/readyz` asks for requests.
    pub fn set_ready(&self, ready: bool) {
        self.metrics.ready.set(ready.into());
    }
}

/// The port for clients.
pub fn public(app: &Arc<App>) -> anyhow::Result<Router> {
    let routes = OpenApiRouter::with_openapi(openapi::head("public"))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(openapi::openapi))
        .routes(routes!(jwks::jwks))
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::account))
        .routes(routes!(sessions::log_in, sessions::end))
        .routes(routes!(sessions::refresh))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(catalogue::publish, catalogue::list))
        .routes(routes!(catalogue::api, catalogue::remove))
        .routes(routes!(statistics::record, statistics::totals));
    finish(app, "public", routes)
}

/// The port for the gateway and operators.
pub fn internal(app: &Arc<App>) -> anyhow::Result<Router> {
    let routes = OpenApiRouter::with_openapi(openapi::head("internal"))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(openapi::openapi))
        .routes(routes!(jwks::jwks))
        .routes(routes!(introspection::introspect))
        .routes(routes!(revocations::revocations));
    finish(app, "internal", routes)
}

fn finish(app: &Arc<App>, name: &'static str, routes: OpenApiRouter<Shared>) -> anyhow::Result<Router> {
    let (router, document) = routes.split_for_parts();
    let document = openapi::Document::finish(document)?;
    let port = Arc::new(Port::new(name, Arc::clone(app)));
    // Last added is outermost.
    let router = router
        .fallback(|| async { Problem::no_route() })
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .layer(Extension(document))
        .layer(middleware::from_fn_with_state(Arc::clone(&port), limits::limit))
        .layer(middleware::from_fn_with_state(port, answer::answer))
        .with_state(Arc::clone(app));
    Ok(router)
}
