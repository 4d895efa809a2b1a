//! What asks a running server from outside: its `/status` document, read by the commands `status` and `wait`.
//!
//! The document is read tolerantly: what a newer server adds is passed over, what an older one leaves out is empty.
//! Nothing here shares memory with a server, or changes one.

pub mod status;
pub mod wait;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::fetch;

/// Bytes of a document at most: 10,000 proxies need about 15 MB.
const MAX_BYTES: usize = 256 << 20;
/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks one server.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
#[error("can't ask {url}: {reason}")]
pub struct Unreachable {
    url: String,
    reason: String,
}

impl Client {
    /// Will ask the server at this base URL.
    ///
    /// # Errors
    /// When it is no URL, or the HTTP client can't be made.
    pub fn new(server: &str) -> Result<Self, Unreachable> {
        let url = format!("{}/status", server.trim_end_matches('/'));
        let unusable = |reason: String| Unreachable { url: url.clone(), reason };
        reqwest::Url::parse(&url).map_err(|error| unusable(error.to_string()))?;
        // One provider for the whole process; a second call finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(TIMEOUT).build();
        let http = http.map_err(|error| unusable(error.to_string()))?;
        Ok(Self { http, url })
    }

    /// The document as the server gives it: JSON.
    ///
    /// # Errors
    /// When the server can't be reached, or answers with anything else than 200.
    pub async fn text(&self) -> Result<String, Unreachable> {
        let text = fetch::text(self.http.get(&self.url), MAX_BYTES).await;
        text.map_err(|reason| Unreachable { url: self.url.clone(), reason })
    }

    /// The document.
    ///
    /// # Errors
    /// As [`text`](Self::text), and when it is not what a server gives.
    pub async fn status(&self) -> Result<Document, Unreachable> {
        serde_json::from_str(&self.text().await?).map_err(|error| Unreachable {
            url: self.url.clone(),
            reason: format!("not a status document: {error}"),
        })
    }
}

/// A server's `/status`, as far as it is read here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of `http::Status`, described there")]
pub struct Document {
    pub now: u64,
    pub config: Config,
    pub etcd: Option<Etcd>,
    pub groups: BTreeMap<String, Group>,
    pub proxies: Vec<Proxy>,
    pub port: Port,
}

/// See `http::PortStatus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Port {
    pub warnings: Vec<String>,
}

/// See `follow::ConfigStatus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Config {
    pub source: String,
    pub version: String,
    pub revision: Option<i64>,
    pub groups: Vec<String>,
    pub loaded_at: u64,
    pub error: Option<ConfigError>,
    pub warnings: Vec<ConfigWarning>,
}

/// See `source::etcd::EtcdStatus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Etcd {
    pub connected: bool,
    pub error: Option<String>,
    pub since: u64,
}

/// See `gateway::Located`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct ConfigWarning {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl std::fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, column, message } = self;
        write!(f, "warning: {file}:{line}:{column}: {message}")
    }
}

/// See `follow::ConfigProblem`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct ConfigError {
    pub version: Option<String>,
    pub text: String,
    pub since: u64,
}

/// See `rollout::GroupStatus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Group {
    pub version: String,
    pub resources: usize,
    pub stage: String,
    pub proxies: usize,
    pub arrived: usize,
    pub refused: usize,
    pub held: Vec<Held>,
    pub canary: Option<Canary>,
    pub last_trial: Option<Trial>,
}

/// See `rollout::report::CanaryStatus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Canary {
    pub version: String,
    pub state: String,
    pub proxies: usize,
    pub arrived: usize,
    pub load: Load,
}

/// See `rollout::canary::Load`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Load {
    pub requests: u64,
    pub errors: u64,
}

/// See `rollout::report::Trial`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Trial {
    pub version: String,
    pub outcome: String,
    pub reason: String,
}

/// A resource that a proxy refused, and that stays at what was right before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Held {
    pub r#type: String,
    pub name: String,
    pub reason: String,
    pub file: Option<String>,
    pub line: Option<u64>,
    pub column: Option<u64>,
}

/// See `http::Proxy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Proxy {
    pub id: String,
    pub group: String,
    pub known_group: bool,
    pub peer: Option<String>,
    pub agent: String,
    pub connected_seconds: u64,
    pub types: BTreeMap<String, Type>,
}

/// See `http::Type`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Type {
    pub sent: Option<String>,
    pub acked: Option<String>,
    pub nack: Option<Nack>,
    pub rejected: usize,
}

/// See `http::Nack`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "described there")]
pub struct Nack {
    pub message: String,
}

impl Group {
    /// Proxies that have not answered.
    pub fn pending(&self) -> usize {
        self.proxies.saturating_sub(self.arrived)
    }
}

impl Proxy {
    /// What it refused and has not got anew: the type's short name, and its reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &str)> {
        self.types.iter().filter(|(_, state)| state.rejected > 0).map(|(type_url, state)| {
            let short = type_url.rsplit('.').next().unwrap_or(type_url);
            (short, state.nack.as_ref().map_or("", |nack| nack.message.as_str()))
        })
    }

    /// `refused`, `pending` or `accepted`; a proxy of a group that the YAML does not name waits for ever.
    pub fn state(&self) -> &'static str {
        match () {
            () if !self.known_group => "unknown group",
            () if self.types.values().any(|state| state.rejected > 0) => "refused",
            () if self.types.values().any(|state| state.sent.is_some() && state.sent != state.acked) => {
                "pending"
            }
            () => "accepted",
        }
    }
}

impl std::fmt::Display for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, state, proxies, arrived, load: Load { requests, errors } } = self;
        write!(
            f,
            "tries {version} with canaries: {state}, {arrived} of {proxies} have it, {errors} of {requests} requests failed"
        )
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.r#type.rsplit('.').next().unwrap_or_default();
        write!(f, "{kind} {}: {}", self.name, self.reason)?;
        let Some(file) = &self.file else { return Ok(()) };
        write!(f, " ({file}:{}:{})", self.line.unwrap_or_default(), self.column.unwrap_or_default())
    }
}

/// Text of a peer made fit for one line of a terminal: no control characters.
fn plain(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}
