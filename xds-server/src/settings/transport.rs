//! Settings of the connections of the gRPC port: TLS, limits, age.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::duration;
use crate::discovery::Limits;

/// Settings of the gRPC port's connections.
#[derive(Debug, Clone, Args)]
pub struct Transport {
    /// PEM file with the certificate that the gRPC port shows, and those that lead to its authority: TLS. The file is
    /// read again when it changes, as are the next two.
    #[arg(long, env = "TOLLGATE_GRPC_CERTIFICATE", value_name = "FILE", requires = "grpc_key")]
    pub grpc_certificate: Option<PathBuf>,

    /// PEM file with its private key.
    #[arg(long, env = "TOLLGATE_GRPC_KEY", value_name = "FILE", requires = "grpc_certificate")]
    pub grpc_key: Option<PathBuf>,

    /// PEM file with the authorities of the proxies' certificates: mTLS. A proxy is then served only the group whose
    /// `identities` in the YAML hold a name of its certificate.
    #[arg(long, env = "TOLLGATE_GRPC_CLIENT_CA", value_name = "FILE", requires = "grpc_certificate")]
    pub grpc_client_ca: Option<PathBuf>,

    /// Age at which a connection is ended, give or take a tenth, or `off`. Its proxy is back within seconds, on another
    /// replica perhaps, and is sent nothing that it has (delta xDS).
    #[arg(long, env = "TOLLGATE_MAX_CONNECTION_AGE", value_name = "TIME", default_value = "30m")]
    pub max_connection_age: Age,

    /// gRPC connections open at a time; more are closed at once.
    #[arg(long, env = "TOLLGATE_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "20000")]
    pub max_connections: usize,

    /// gRPC connections open at a time from one address (IPv6: one /64); more are closed at once.
    #[arg(long, env = "TOLLGATE_MAX_CONNECTIONS_PER_ADDRESS", value_name = "NUMBER", default_value = "5000")]
    pub max_connections_per_address: usize,

    /// How often a silent proxy is asked for a sign of life.
    #[arg(long, env = "TOLLGATE_KEEPALIVE_INTERVAL", value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub keepalive_interval: Duration,

    /// How long that sign may take until the connection is closed.
    #[arg(long, env = "TOLLGATE_KEEPALIVE_TIMEOUT", value_name = "TIME", default_value = "20s", value_parser = duration)]
    pub keepalive_timeout: Duration,
}

impl Transport {
    /// The limits of the discovery service, with these in them.
    pub fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            connections_per_address: self.max_connections_per_address,
            max_connection_age: self.max_connection_age.0,
            keepalive_interval: self.keepalive_interval,
            keepalive_timeout: self.keepalive_timeout,
            ..Limits::default()
        }
    }
}

/// A time, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(pub Option<Duration>);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            _ => duration(text).map(Some).map(Self),
        }
    }
}
