//! What a case is. All fields are public: a runner needs nothing else.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use tollgate_filter_config::{AuthConfig, GatewayConfig, RateLimitConfig};

mod check;

pub use check::Observed;

/// Cluster that introspection cases ask.
pub const INTROSPECTION_CLUSTER: &str = "introspection";
/// `:authority` they ask with.
pub const INTROSPECTION_AUTHORITY: &str = "introspection.example";
/// Path they ask at.
pub const INTROSPECTION_PATH: &str = "/introspect";

/// A filter with one configuration, and what happens to some requests in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Says the fact that the case proves; unique.
    pub name: String,
    /// Which filter, and its plugin configuration.
    pub config: Config,
    /// The routes that requests can take; the upstream of all is the same.
    pub routes: Vec<Route>,
    /// Requests in order, through one worker.
    pub steps: Vec<Step>,
}

/// Configuration of the filter under test.
#[derive(Debug, Clone, PartialEq)]
pub enum Config {
    /// Of `auth.wasm`.
    Auth(AuthConfig),
    /// Of `rate_limit.wasm`.
    RateLimit(RateLimitConfig),
    /// Of `gateway.wasm`, which is both.
    Gateway(GatewayConfig),
}

/// A route of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name, but for its policies.
    pub name: String,
    /// The exact path it matches.
    pub path: String,
    /// Its policies, as `auth=NAME,rate_limit=NAME`; empty: it has none.
    pub policies: String,
}

/// One request, and what must come of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Time that passes before it.
    pub wait: Duration,
    /// Address it comes from: of 127.0.0.0/8, so that a client can bind to it.
    pub client: Ipv4Addr,
    /// Path of its route. The method is GET, without a body.
    pub path: String,
    /// Header fields as the client sends them, in order; values are bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The question that the filter must ask and the answer it gets; `None`: it must not ask.
    pub introspection: Option<Introspected>,
    /// What must come of it.
    pub expect: Expect,
}

/// A call to the introspection service (`POST`, JSON body `{"key_sha256": …}`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspected {
    /// SHA-256 of the key that must be asked about, in lower-case hexadecimal.
    pub key_sha256: String,
    /// What the service does.
    pub answer: Answer,
}

/// What the introspection service does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It answers.
    Response {
        /// Status.
        status: u16,
        /// Body.
        body: String,
    },
    /// Nobody listens there.
    Dead,
    /// It does not answer within the configured time.
    Late,
}

/// What must come of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Expect {
    /// Whether it reaches the upstream.
    pub outcome: Outcome,
    /// What the upstream must see in the request's headers.
    pub upstream: Vec<(String, Seen)>,
    /// What the client must see in the response's headers.
    pub client: Vec<(String, Seen)>,
}

/// Whether a request reaches the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It does, and the client gets the upstream's 200.
    Passes,
    /// The filter answers.
    Refused {
        /// Status.
        status: u16,
        /// Member `code` of the problem document.
        code: String,
    },
}

/// What must be true of one header name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// One field with exactly this value.
    Is(Vec<u8>),
    /// One field at least whose value contains this text.
    Contains(String),
    /// No field.
    Absent,
}

impl Case {
    /// The route a step takes.
    pub fn route(&self, step: &Step) -> Option<&Route> {
        self.routes.iter().find(|route| route.path == step.path)
    }

    /// How long the steps' waits take together: a runner in real time may leave out what takes too long.
    pub fn total_wait(&self) -> Duration {
        self.steps.iter().map(|step| step.wait).sum()
    }

    /// The same case through the module that holds both filters; the other filter has nothing to do.
    pub(crate) fn in_one_module(&self) -> Self {
        let nothing = AuthConfig {
            // The cases of the limit say who calls by the header that the auth filter sets.
            trust_identity_headers: true,
            claim_headers: Vec::new(),
            claims: Vec::new(),
            policies: BTreeMap::new(),
            revocations: None,
            requirements: BTreeMap::new(),
        };
        let (auth, rate_limit) = match self.config.clone() {
            Config::Auth(auth) => (auth, RateLimitConfig { policies: BTreeMap::new(), quota: None }),
            Config::RateLimit(rate_limit) => (nothing, rate_limit),
            Config::Gateway(both) => (both.auth, both.rate_limit),
        };
        let routes = self.routes.iter().map(|route| {
            let others = match &self.config {
                Config::Auth(_) => "rate_limit=",
                Config::RateLimit(_) => "auth=",
                Config::Gateway(_) => "none",
            };
            let own = route.policies.split(',').filter(|policy| !policy.starts_with(others));
            Route { policies: own.collect::<Vec<_>>().join(","), ..route.clone() }
        });
        Self {
            name: format!("{} (in one module)", self.name),
            config: Config::Gateway(GatewayConfig { auth, rate_limit }),
            routes: routes.collect(),
            steps: self.steps.clone(),
        }
    }

    pub(crate) fn auth(name: &str, config: AuthConfig, steps: impl IntoIterator<Item = Step>) -> Self {
        let routes = vec![
            Route::new("main", "auth=p"),
            Route::new("required", "auth=p/r"),
            Route::new("open", ""),
            Route::new("stray", "auth=gone"),
            Route::new("lost", "auth=p/gone"),
        ];
        Self {
            name: name.to_owned(),
            config: Config::Auth(config),
            routes,
            steps: steps.into_iter().collect(),
        }
    }

    pub(crate) fn rate_limit(
        name: &str,
        config: RateLimitConfig,
        steps: impl IntoIterator<Item = Step>,
    ) -> Self {
        let routes = vec![
            Route::new("main", "rate_limit=p"),
            Route::new("other", "rate_limit=p"),
            Route::new("second", "rate_limit=q"),
            Route::new("open", "auth=p"),
            Route::new("stray", "rate_limit=gone"),
        ];
        Self {
            name: name.to_owned(),
            config: Config::RateLimit(config),
            routes,
            steps: steps.into_iter().collect(),
        }
    }
}

impl Config {
    /// Name of the module's file, without `.wasm`.
    pub fn module(&self) -> &'static str {
        match self {
            Self::Auth(_) => "auth",
            Self::RateLimit(_) => "rate_limit",
            Self::Gateway(_) => "gateway",
        }
    }

    /// The plugin configuration, as it goes into a `StringValue`.
    pub fn json(&self) -> String {
        let json = match self {
            Self::Auth(config) => serde_json::to_string(config),
            Self::RateLimit(config) => serde_json::to_string(config),
            Self::Gateway(config) => serde_json::to_string(config),
        };
        // Maps with string keys and plain values serialize.
        json.unwrap_or_default()
    }
}

impl Route {
    /// Its name in Envoy.
    pub fn full_name(&self) -> String {
        format!("{};{}", self.name, if self.policies.is_empty() { "none" } else { &self.policies })
    }

    pub(crate) fn new(name: &str, policies: &str) -> Self {
        Self { name: name.to_owned(), path: format!("/{name}"), policies: policies.to_owned() }
    }
}

impl Step {
    /// A request on the route named `route`.
    pub(crate) fn on(route: &str, expect: Expect) -> Self {
        Self {
            wait: Duration::ZERO,
            client: Ipv4Addr::LOCALHOST,
            path: format!("/{route}"),
            headers: Vec::new(),
            introspection: None,
            expect,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn after(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    pub(crate) fn from(mut self, client: [u8; 4]) -> Self {
        self.client = client.into();
        self
    }

    pub(crate) fn asking(mut self, key_sha256: String, answer: Answer) -> Self {
        self.introspection = Some(Introspected { key_sha256, answer });
        self
    }
}

impl Expect {
    pub(crate) fn passes() -> Self {
        Self { outcome: Outcome::Passes, upstream: Vec::new(), client: Vec::new() }
    }

    pub(crate) fn refused(status: u16, code: &str) -> Self {
        let outcome = Outcome::Refused { status, code: code.to_owned() };
        Self { outcome, upstream: Vec::new(), client: Vec::new() }
    }

    /// The upstream sees one such field.
    pub(crate) fn upstream(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.upstream.push((name.to_owned(), Seen::Is(value.as_ref().to_vec())));
        self
    }

    /// The upstream sees no such field.
    pub(crate) fn no_upstream(mut self, name: &str) -> Self {
        self.upstream.push((name.to_owned(), Seen::Absent));
        self
    }

    /// The client sees one such field.
    pub(crate) fn client(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.client.push((name.to_owned(), Seen::Is(value.as_ref().to_vec())));
        self
    }

    /// The client sees such a field with this text in it.
    pub(crate) fn client_has(mut self, name: &str, text: &str) -> Self {
        self.client.push((name.to_owned(), Seen::Contains(text.to_owned())));
        self
    }

    /// The client sees no such field.
    pub(crate) fn no_client(mut self, name: &str) -> Self {
        self.client.push((name.to_owned(), Seen::Absent));
        self
    }
}
