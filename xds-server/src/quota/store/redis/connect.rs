//! From settings to clients: which servers there are, as whom to log in, whom to trust. Nothing is connected here.

use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError, TlsCertificates, TlsMode,
};
use tokio::sync::Mutex;

use super::{Redis, Servers};

/// How the servers belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// The addresses are Sentinels, which know the master of this name.
    Sentinel {
        /// What the Sentinels call the master.
        master: String,
    },
    /// Nodes of a Cluster; the others are learnt from them.
    Cluster,
}

/// Where Redis is.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://HOST:PORT` or `rediss://HOST:PORT` (TLS); with more than one for Sentinels and Clusters.
    pub urls: Vec<String>,
    /// How they belong together.
    pub topology: Topology,
    /// ACL user, unless the URLs name one.
    pub username: Option<String>,
    /// Password, unless the URLs have one.
    pub password: Option<String>,
    /// Authorities to believe, in PEM, instead of the system's.
    pub trusted_ca: Option<Vec<u8>>,
    /// How long a batch may take, with connecting.
    pub timeout: Duration,
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSettings").field("topology", &self.topology).finish_non_exhaustive()
    }
}

impl Redis {
    /// Reads the settings. Connects when there is something to do.
    ///
    /// # Errors
    /// When they make no sense. The text shows no URL, which may hold a password.
    pub fn new(settings: &RedisSettings) -> Result<Self, String> {
        let bad = |error: RedisError| format!("the Redis settings are wrong: {}", error.category());
        let nodes = settings.urls.iter().map(|url| node(url, settings)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = nodes.first() else { return Err("no Redis URL is given".into()) };
        let tls = matches!(first.addr(), ConnectionAddr::TcpTls { .. });
        let certificates = TlsCertificates { client_tls: None, root_cert: settings.trusted_ca.clone() };
        let servers = match &settings.topology {
            Topology::Single if nodes.len() > 1 => {
                return Err("several Redis URLs are given: are they Sentinels or a Cluster?".into());
            }
            Topology::Single if tls => {
                Servers::Single(Box::new(Client::build_with_tls(first.clone(), certificates).map_err(bad)?))
            }
            Topology::Single => Servers::Single(Box::new(Client::open(first.clone()).map_err(bad)?)),
            Topology::Sentinel { master } => {
                let client = sentinel(&nodes, master, tls.then_some(certificates)).map_err(bad)?;
                Servers::Sentinel(Box::new(Mutex::new(client)))
            }
            Topology::Cluster => {
                let client = cluster(nodes.clone(), tls.then_some(certificates), settings.timeout);
                Servers::Cluster(Box::new(client.map_err(bad)?))
            }
        };
        let addresses: Vec<String> = nodes.iter().map(|node| node.addr().to_string()).collect();
        let described = match &settings.topology {
            Topology::Single => format!("redis {}", addresses.join(", ")),
            Topology::Sentinel { master } => format!("redis {master} of sentinels {}", addresses.join(", ")),
            Topology::Cluster => format!("redis cluster {}", addresses.join(", ")),
        };
        Ok(Self { servers, connection: Mutex::new(None), timeout: settings.timeout, described })
    }
}

fn node(url: &str, settings: &RedisSettings) -> Result<ConnectionInfo, String> {
    let wrong = "a Redis URL is not of the form redis://HOST:PORT or rediss://HOST:PORT";
    let info = url.into_connection_info().map_err(|_| wrong.to_owned())?;
    if !matches!(info.addr(), ConnectionAddr::Tcp(..) | ConnectionAddr::TcpTls { insecure: false, .. }) {
        return Err(wrong.into());
    }
    let mut redis = info.redis_settings().clone();
    if let (None, Some(username)) = (redis.username(), &settings.username) {
        redis = redis.set_username(username);
    }
    if let (None, Some(password)) = (redis.password(), &settings.password) {
        redis = redis.set_password(password);
    }
    Ok(info.set_redis_settings(redis))
}

/// Sentinels often have no users; the login is the servers'.
fn sentinel(
    nodes: &[ConnectionInfo],
    master: &str,
    tls: Option<TlsCertificates>,
) -> Result<SentinelClient, RedisError> {
    let addresses = nodes.iter().map(|node| node.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?;
    if let Some(certificates) = tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates);
    }
    if let Some(redis) = nodes.first().map(ConnectionInfo::redis_settings) {
        if let Some(username) = redis.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = redis.password() {
            builder = builder.set_client_to_redis_password(password);
        }
    }
    builder.build()
}

fn cluster(
    nodes: Vec<ConnectionInfo>,
    tls: Option<TlsCertificates>,
    timeout: Duration,
) -> Result<ClusterClient, RedisError> {
    let mut builder = ClusterClientBuilder::new(nodes).connection_timeout(timeout).response_timeout(timeout);
    if let Some(certificates) = tls {
        builder = builder.certs(certificates);
    }
    builder.build()
}
