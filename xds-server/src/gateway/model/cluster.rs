//! Clusters: endpoints, their health, and how much they get.

use std::borrow::Cow;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::ClusterTls;
use super::short_form::text_or_object;
use crate::gateway::scalar::{Address, Duration, Path};

/// A group of endpoints that serve the same thing.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Endpoints. IP addresses are pushed over EDS; with a DNS name among them, all are resolved by Envoy.
    /// May be empty: requests then get 503.
    pub endpoints: Vec<Endpoint>,
    /// How long a connection may take. Default 1s.
    #[serde(default = "Cluster::connect_timeout")]
    pub connect_timeout: Duration,
    /// Protocol that the endpoints speak. Default `http1`.
    #[serde(default)]
    pub protocol: Protocol,
    /// TLS. Left out: plain text.
    pub tls: Option<ClusterTls>,
    /// How an endpoint is picked. Default `round_robin`.
    #[serde(default)]
    pub load_balancing: LoadBalancing,
    /// Ask the endpoints whether they are well.
    pub health_check: Option<HealthCheck>,
    /// Leave out endpoints that answer badly.
    pub outlier_detection: Option<OutlierDetection>,
    /// Bounds on what is under way at once.
    pub circuit_breakers: Option<CircuitBreakers>,
}

impl Cluster {
    fn connect_timeout() -> Duration {
        Duration::from_millis(1_000)
    }
}

/// One endpoint. Short form: `HOST:PORT`.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// Share, in proportion to the other endpoints, at least 1. Default 1.
    pub weight: u32,
}

/// One endpoint. Short form: `HOST:PORT`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Endpoint")]
struct FullEndpoint {
    /// Host and port.
    address: Address,
    /// Share, in proportion to the other endpoints: 1 to 1000. Default 1.
    #[serde(default = "FullEndpoint::weight")]
    weight: u32,
}

impl FullEndpoint {
    fn weight() -> u32 {
        1
    }
}

impl From<FullEndpoint> for Endpoint {
    fn from(full: FullEndpoint) -> Self {
        Self { address: full.address, weight: full.weight }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self { address: text.parse()?, weight: 1 })
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_object::<D, Self, FullEndpoint>(deserializer, "HOST:PORT, or {address: HOST:PORT, weight: 1}")
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "AddressOrEndpoint".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let short = generator.subschema_for::<Address>();
        let long = generator.subschema_for::<FullEndpoint>();
        json_schema!({"anyOf": [short, long]})
    }
}

/// Protocol towards endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS (prior knowledge), for gRPC.
    Http2,
}

/// How an endpoint is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with fewer requests of two picked by chance.
    LeastRequest,
    /// By chance.
    Random,
}

/// A request that every Envoy sends to every endpoint, again and again. Exactly one of `http` and `tcp`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Path that must answer 200.
    pub http: Option<Path>,
    /// Whether a connection alone is enough.
    #[serde(default)]
    pub tcp: bool,
    /// Time between two checks. Default 5s.
    #[serde(default = "HealthCheck::interval")]
    pub interval: Duration,
    /// How long one check may take. Default 1s.
    #[serde(default = "HealthCheck::timeout")]
    pub timeout: Duration,
    /// Failures in a row that make an endpoint unhealthy. Default 2.
    #[serde(default = "HealthCheck::unhealthy_threshold")]
    pub unhealthy_threshold: u32,
    /// Successes in a row that make it healthy again. Default 1.
    #[serde(default = "HealthCheck::healthy_threshold")]
    pub healthy_threshold: u32,
}

impl HealthCheck {
    fn interval() -> Duration {
        Duration::from_millis(5_000)
    }

    fn timeout() -> Duration {
        Duration::from_millis(1_000)
    }

    fn unhealthy_threshold() -> u32 {
        2
    }

    fn healthy_threshold() -> u32 {
        1
    }
}

/// Endpoints that answer badly are left out for a while.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutlierDetection {
    /// 5xx answers in a row. Default 5.
    #[serde(default = "OutlierDetection::consecutive_5xx")]
    pub consecutive_5xx: u32,
    /// Time between two looks. Default 10s.
    #[serde(default = "OutlierDetection::interval")]
    pub interval: Duration,
    /// How long the first time; it grows with every time. Default 30s.
    #[serde(default = "OutlierDetection::base_ejection_time")]
    pub base_ejection_time: Duration,
    /// Share of the endpoints that may be left out at once, in percent: 0 to 100. Default 10, and always one
    /// endpoint.
    #[serde(default = "OutlierDetection::max_ejection_percent")]
    pub max_ejection_percent: u32,
}

impl OutlierDetection {
    fn consecutive_5xx() -> u32 {
        5
    }

    fn interval() -> Duration {
        Duration::from_millis(10_000)
    }

    fn base_ejection_time() -> Duration {
        Duration::from_millis(30_000)
    }

    fn max_ejection_percent() -> u32 {
        10
    }
}

/// Bounds on what one Envoy has under way to the cluster. Left out, each is 1024 (retries: 3).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreakers {
    /// Connections.
    pub max_connections: Option<u32>,
    /// Requests waiting for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests.
    pub max_requests: Option<u32>,
    /// Retries.
    pub max_retries: Option<u32>,
}
