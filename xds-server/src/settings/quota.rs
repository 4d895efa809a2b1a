//! Settings of the quota service: its address, and where it keeps its buckets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration;
use crate::gateway::scalar::Address;
use crate::quota::{Memory, Redis, RedisSettings, Store, Topology};

/// Settings of the quota service.
#[derive(Clone, Args)]
pub struct Quota {
    /// Where Envoys ask for tokens of limits with `scope: global`, over gRPC (RLS v3), and what was revoked. Port 0 takes a
    /// free one.
    #[arg(long, env = "TOLLGATE_QUOTA_ADDRESS", default_value = "127.0.0.1:18002")]
    pub quota_address: SocketAddr,

    /// Where Envoys reach --quota-address, as HOST:PORT. Default: that address itself, unless it stands for all interfaces.
    #[arg(long, env = "TOLLGATE_QUOTA_ADVERTISE", value_name = "HOST:PORT")]
    pub quota_advertise: Option<Address>,

    /// How long an Envoy waits for tokens; then `on_failure` decides. Also what the first request of a client waits at most.
    #[arg(long, env = "TOLLGATE_QUOTA_TIMEOUT", default_value = "500ms", value_parser = duration)]
    pub quota_timeout: Duration,

    /// Redis that keeps the buckets, as redis://HOST:PORT or rediss://HOST:PORT (TLS); several for Sentinels or a Cluster.
    /// Default: the memory of this process, for a single xds-server.
    #[arg(
        long,
        env = "TOLLGATE_QUOTA_REDIS",
        value_name = "URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub quota_redis: Vec<String>,

    /// How the servers of --quota-redis belong together.
    #[arg(long, env = "TOLLGATE_QUOTA_REDIS_TOPOLOGY", value_enum, default_value = "single")]
    pub quota_redis_topology: RedisTopology,

    /// What the Sentinels call the master.
    #[arg(long, env = "TOLLGATE_QUOTA_REDIS_MASTER", default_value = "mymaster")]
    pub quota_redis_master: String,

    /// ACL user of Redis, unless the URLs name one.
    #[arg(long, env = "TOLLGATE_QUOTA_REDIS_USERNAME")]
    pub quota_redis_username: Option<String>,

    /// File with the password of Redis, unless the URLs have one.
    #[arg(long, env = "TOLLGATE_QUOTA_REDIS_PASSWORD_FILE", value_name = "FILE")]
    pub quota_redis_password_file: Option<PathBuf>,

    /// File with the authorities (PEM) that may have signed Redis' certificate, instead of the system's.
    #[arg(long, env = "TOLLGATE_QUOTA_REDIS_CA_FILE", value_name = "FILE")]
    pub quota_redis_ca_file: Option<PathBuf>,

    /// How long Redis may take for one batch, with connecting.
    #[arg(long, env = "TOLLGATE_QUOTA_REDIS_TIMEOUT", default_value = "300ms", value_parser = duration)]
    pub quota_redis_timeout: Duration,
}

/// How several Redis servers belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RedisTopology {
    /// One server.
    Single,
    /// The URLs are Sentinels.
    Sentinel,
    /// The URLs are nodes of a Cluster; the others are learnt from them.
    Cluster,
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // URLs may hold passwords.
        f.debug_struct("Quota").field("quota_address", &self.quota_address).finish_non_exhaustive()
    }
}

impl Quota {
    /// Where Envoys reach a service that is bound to `address`.
    ///
    /// # Errors
    /// When no Envoy can connect to it, and nothing else is set.
    pub fn advertised(&self, address: SocketAddr) -> Result<Address, String> {
        match &self.quota_advertise {
            Some(address) => Ok(address.clone()),
            None if address.ip().is_unspecified() => Err(format!(
                "Envoys can't ask {address} for tokens: set --quota-advertise to an address of this server"
            )),
            None => Ok(Address { host: address.ip().to_string(), port: address.port() }),
        }
    }

    /// Where buckets are kept. Connects to nothing yet.
    ///
    /// # Errors
    /// When a file can't be read, or the settings don't go together. Shows no URL.
    pub fn store(&self) -> Result<Store, String> {
        if self.quota_redis.is_empty() {
            return Ok(Store::Memory(Memory::default()));
        }
        let read = |file: &Option<PathBuf>| match file {
            Some(file) => std::fs::read(file)
                .map(Some)
                .map_err(|error| format!("can't read {}: {error}", file.display())),
            None => Ok(None),
        };
        let password = match read(&self.quota_redis_password_file)? {
            Some(bytes) => {
                let text =
                    String::from_utf8(bytes).map_err(|_| "the Redis password is no text".to_owned())?;
                Some(text.trim_end_matches(['\n', '\r']).to_owned())
            }
            None => None,
        };
        let topology = match self.quota_redis_topology {
            RedisTopology::Single => Topology::Single,
            RedisTopology::Sentinel => Topology::Sentinel { master: self.quota_redis_master.clone() },
            RedisTopology::Cluster => Topology::Cluster,
        };
        let settings = RedisSettings {
            urls: self.quota_redis.clone(),
            topology,
            username: self.quota_redis_username.clone(),
            password,
            trusted_ca: read(&self.quota_redis_ca_file)?,
            timeout: self.quota_redis_timeout,
        };
        Redis::new(&settings).map(|redis| Store::Redis(Box::new(redis)))
    }
}
