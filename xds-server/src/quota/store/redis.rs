//! Buckets in Redis: a single server, what Sentinels say is the master, or a Cluster. One round trip a batch.
//!
//! Nothing is sent twice from here, except by the Cluster client where a slot has moved or a node went: a debit that is
//! done twice only costs tokens, and a credit is marked, so that it is done once. Redis' time counts, so the clocks of
//! several xds-servers don't matter.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::SentinelClient;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Script};
use tokio::sync::Mutex;
use tollgate_filter_core::quota::Micros;

use super::{Kind, Operation, Outcome, StoreError};

mod connect;

pub use connect::{RedisSettings, Topology};

const LUA: &str = include_str!("redis/apply.lua");
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(LUA));

/// What all keys begin with.
const PREFIX: &str = "tollgate:quota:";

/// The store.
#[derive(Debug)]
pub struct Redis {
    servers: Servers,
    /// Made when it is needed, dropped when it breaks.
    connection: Mutex<Option<Connection>>,
    timeout: Duration,
    described: String,
}

/// How a connection is made.
enum Servers {
    Single(Box<Client>),
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The clients hold passwords.
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Sentinel(_) => "Sentinel",
            Self::Cluster(_) => "Cluster",
        })
    }
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Redis {
    /// For people: servers, without credentials.
    pub fn describe(&self) -> String {
        self.described.clone()
    }

    /// Does a batch at Redis' own time, or at `now` in microseconds since the epoch.
    ///
    /// # Errors
    /// When Redis can't be reached or doesn't answer in time.
    pub async fn apply(&self, batch: &[Operation], now: Option<u64>) -> Result<Vec<Outcome>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let done = tokio::time::timeout(self.timeout, async {
            let connection = self.connect().await?;
            let outcomes = match connection.clone() {
                Connection::One(mut one) => run(&mut one, batch, now).await,
                Connection::Cluster(cluster) => spread(&cluster, batch, now).await,
            };
            if let Err(error) = &outcomes
                && is_broken(error)
            {
                self.forget();
            }
            outcomes
        });
        match done.await {
            Ok(outcomes) => outcomes.map_err(|error| StoreError::Unavailable(error.to_string())),
            Err(_) => {
                // What hangs for this long may hang for ever: a host that went away without a word.
                self.forget();
                Err(StoreError::Unavailable(format!("no answer within {:?}", self.timeout)))
            }
        }
    }

    /// Who holds the lock makes a new connection already.
    fn forget(&self) {
        if let Ok(mut connection) = self.connection.try_lock() {
            *connection = None;
        }
    }

    /// The connection; several batches share it. While one is made, the others wait for it.
    async fn connect(&self) -> Result<Connection, RedisError> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let made = match &self.servers {
            Servers::Single(client) => {
                Connection::One(client.get_multiplexed_async_connection_with_config(&config).await?)
            }
            Servers::Sentinel(client) => {
                Connection::One(client.lock().await.get_async_connection_with_config(&config).await?)
            }
            Servers::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        };
        *connection = Some(made.clone());
        Ok(made)
    }
}

/// Whether another connection may do better. After a failover the old master answers, but read-only.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || error.is_unrecoverable_error()
        || matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH" | "UNBLOCKED"))
}

/// In a Cluster every bucket may be on another node, and one script holds one slot's keys. All are on their way at once.
async fn spread(
    cluster: &ClusterConnection,
    batch: &[Operation],
    now: Option<u64>,
) -> Result<Vec<Outcome>, RedisError> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for (index, operation) in batch.iter().enumerate() {
        // What concerns one bucket stays in order.
        match runs.iter_mut().find(|run| run.first().is_some_and(|i| batch[*i].bucket == operation.bucket)) {
            Some(run) => run.push(index),
            None => runs.push(vec![index]),
        }
    }
    let sent = runs.iter().map(|run_of| async {
        let operations: Vec<Operation> = run_of.iter().map(|index| batch[*index]).collect();
        run(&mut cluster.clone(), &operations, now).await
    });
    let mut placed: Vec<(usize, Outcome)> = Vec::with_capacity(batch.len());
    for (run_of, outcomes) in runs.iter().zip(try_join_all(sent).await?) {
        placed.extend(run_of.iter().copied().zip(outcomes));
    }
    placed.sort_unstable_by_key(|(index, _)| *index);
    Ok(placed.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Runs the script, and sends its text where the server doesn't know it yet.
async fn run(
    connection: &mut impl ConnectionLike,
    batch: &[Operation],
    now: Option<u64>,
) -> Result<Vec<Outcome>, RedisError> {
    let mut by_hash = redis::cmd("EVALSHA");
    by_hash.arg(SCRIPT.get_hash());
    arguments(&mut by_hash, batch, now);
    let reply: Vec<u64> = match by_hash.query_async(connection).await {
        Err(error) if error.code() == Some("NOSCRIPT") => {
            let mut by_text = redis::cmd("EVAL");
            by_text.arg(LUA);
            arguments(&mut by_text, batch, now);
            by_text.query_async(connection).await?
        }
        reply => reply?,
    };
    let short =
        || RedisError::from((redis::ErrorKind::UnexpectedReturnType, "the script's reply is too short"));
    let (now, outcomes) = reply.split_first().ok_or_else(short)?;
    let outcomes: Vec<Outcome> = outcomes
        .chunks_exact(3)
        .map(|numbers| Outcome {
            taken: numbers[0],
            state: Micros { whole: numbers[1], parts: numbers[2] },
            now: *now,
        })
        .collect();
    if outcomes.len() == batch.len() { Ok(outcomes) } else { Err(short()) }
}

fn arguments(command: &mut Cmd, batch: &[Operation], now: Option<u64>) {
    let mut keys: Vec<String> = Vec::with_capacity(batch.len());
    for operation in batch {
        let bucket = key(operation);
        if let Kind::Credit(number) = operation.kind {
            let mark = format!("{bucket}:{number:016x}");
            keys.extend([bucket, mark]);
        } else {
            keys.push(bucket);
        }
    }
    command.arg(keys.len()).arg(keys).arg(now.map(|now| now.to_string()).unwrap_or_default());
    for Operation { kind, tokens, limit, .. } in batch {
        let kind = match kind {
            Kind::Whole => "whole",
            Kind::UpTo => "upto",
            Kind::Credit(_) => "credit",
        };
        command.arg(kind).arg(*tokens).arg(limit.parts);
        command.arg(limit.cost.whole).arg(limit.cost.parts);
        command.arg(limit.tolerance.whole).arg(limit.tolerance.parts);
    }
}

/// The braces keep a bucket and its marks in one slot of a Cluster.
fn key(operation: &Operation) -> String {
    use std::fmt::Write as _;
    let mut key = format!("{PREFIX}{{");
    for byte in operation.bucket {
        let _ = write!(key, "{byte:02x}");
    }
    key.push('}');
    key
}
