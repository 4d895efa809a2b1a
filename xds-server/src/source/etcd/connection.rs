//! One connection to one etcd: authenticate, read, watch, write. What is read of it, and when, is said elsewhere.
//!
//! Every call has a deadline, and HTTP/2 pings find a peer that went away without a word. Where there are several
//! endpoints, whoever opens the connection goes through them: with one at a time, it is known who said what.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::state::State;
use super::wire::{
    AUTHENTICATE, AuthenticateRequest, AuthenticateResponse, RANGE, RangeRequest, RangeResponse,
    ResponseHeader, TXN, TxnRequest, TxnResponse, WATCH, WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::settings::etcd::Etcd as Settings;
use crate::source::file::read_file;

const CONNECT: Duration = Duration::from_secs(2);
/// Time for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// etcd ends connections that ping more often than every 5 s (`--grpc-keepalive-min-time`).
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one answer at most. etcd takes 1.5 MiB in one transaction, so this is many documents.
const MAX_ANSWER: usize = 64 << 20;

/// Why etcd gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// The connection can't be made.
    #[error("{endpoint}: {reason}")]
    Connect {
        /// Which.
        endpoint: String,
        /// In the words of the deepest cause.
        reason: String,
    },
    /// What is asked for was compacted away.
    #[error("the revision was compacted")]
    Compacted,
    /// etcd refused, or broke off.
    #[error("etcd says: {0}")]
    Refused(String),
    /// It holds an older state than it held before.
    #[error(
        "etcd is at revision {found}, which is older than {seen}, which was served from it: it was restored from a backup, or \
         is another one; what it holds is taken once it is past that revision, or by a server that is started without {kept}"
    )]
    Older {
        /// Revision of its answer.
        found: i64,
        /// Revision that was there before.
        seen: i64,
        /// The file that remembers.
        kept: String,
    },
}

impl EtcdError {
    fn of(status: &Status) -> Self {
        match status.code() {
            // "etcdserver: mvcc: required revision has been compacted".
            Code::OutOfRange if status.message().contains("compacted") => Self::Compacted,
            _ => Self::Refused(status.message().to_owned()),
        }
    }
}

/// A connection that was open a moment ago. Clones are the same.
#[derive(Clone)]
pub struct Connection {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    prefix: Bytes,
}

impl Connection {
    /// Connects to the endpoint with this number, and authenticates where there is a user.
    ///
    /// # Errors
    /// When it can't be reached within 2 s, or refuses.
    pub async fn open(settings: &Settings, number: usize) -> Result<Self, EtcdError> {
        let name = settings.endpoint(number);
        let failed = |reason: String| EtcdError::Connect { endpoint: name.to_owned(), reason };
        let secrets = settings.clone();
        let secrets = tokio::task::spawn_blocking(move || Secrets::read(&secrets)).await;
        let secrets = secrets.map_err(|_| failed("gave up reading files".into()))?.map_err(failed)?;
        let mut endpoint = Endpoint::from_shared(name.to_owned())
            .map_err(|error| failed(deepest(&error)))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        if let Some(tls) = secrets.tls {
            endpoint = endpoint.tls_config(tls).map_err(|error| failed(deepest(&error)))?;
        }
        let connected = tokio::time::timeout(CONNECT * 2, endpoint.connect()).await;
        let channel =
            connected.map_err(|_| failed("no answer".into()))?.map_err(|error| failed(deepest(&error)))?;
        let prefix = Bytes::copy_from_slice(settings.etcd_prefix.as_bytes());
        let mut connection = Self { channel, token: None, prefix };
        if let Some((name, password)) = secrets.user {
            let request = AuthenticateRequest { name, password };
            let answer: AuthenticateResponse = connection.unary(AUTHENTICATE, request).await?;
            let token = answer.token.parse().map_err(|_| failed("its token is no header".into()))?;
            connection.token = Some(token);
        }
        Ok(connection)
    }

    /// All documents, now or as they were at a revision.
    ///
    /// # Errors
    /// When etcd does not answer; when the revision was compacted.
    pub async fn read(&self, at: Option<i64>) -> Result<State, EtcdError> {
        let request = RangeRequest { revision: at.unwrap_or(0), ..self.range() };
        let answer: RangeResponse = self.unary(RANGE, request).await?;
        let ResponseHeader { cluster_id, revision } = header(answer.header)?;
        Ok(State::of(cluster_id, at.unwrap_or(revision), answer.kvs))
    }

    /// The revision that etcd is at, as its majority has it.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn revision(&self) -> Result<i64, EtcdError> {
        let request = RangeRequest { count_only: true, ..self.range() };
        let answer: RangeResponse = self.unary(RANGE, request).await?;
        Ok(header(answer.header)?.revision)
    }

    /// When each document was last written, as of a revision (0 is now), without the documents.
    ///
    /// # Errors
    /// When etcd does not answer; when the revision was compacted.
    pub async fn keys(&self, at: i64) -> Result<State, EtcdError> {
        let request = RangeRequest { revision: at, keys_only: true, ..self.range() };
        let answer: RangeResponse = self.unary(RANGE, request).await?;
        Ok(State::of(header(answer.header)?.cluster_id, at, answer.kvs))
    }

    /// Every transaction from this revision on.
    ///
    /// # Errors
    /// When etcd does not begin to answer.
    pub async fn watch(&self, from: i64) -> Result<Watching, EtcdError> {
        let RangeRequest { key, range_end, .. } = self.range();
        let create = WatchCreateRequest { key, range_end, start_revision: from, progress_notify: true };
        // The stream of requests stays open: its end would end the watch.
        let requests =
            tokio_stream::once(WatchRequest { create_request: Some(create) }).chain(tokio_stream::pending());
        let mut request = self.request(requests);
        // A member that has lost its majority ends the watch, instead of being silent.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let mut grpc = self.grpc();
        let started = within(async {
            ready(&mut grpc).await?;
            grpc.streaming(request, PathAndQuery::from_static(WATCH), ProstCodec::default()).await
        });
        Ok(Watching { answers: started.await?.into_inner() })
    }

    /// Writes in one transaction, if what it compares is so.
    ///
    /// # Errors
    /// When etcd does not answer, or refuses.
    pub async fn write(&self, request: TxnRequest) -> Result<TxnResponse, EtcdError> {
        self.unary(TXN, request).await
    }

    /// All keys that begin with the prefix.
    pub fn range(&self) -> RangeRequest {
        RangeRequest { key: self.prefix.clone(), range_end: after(&self.prefix), ..RangeRequest::default() }
    }

    async fn unary<Q, A>(&self, path: &'static str, message: Q) -> Result<A, EtcdError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc();
        let answered = within(async {
            ready(&mut grpc).await?;
            grpc.unary(self.request(message), PathAndQuery::from_static(path), ProstCodec::default()).await
        });
        Ok(answered.await?.into_inner())
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

/// A watch under way.
pub struct Watching {
    answers: Streaming<WatchResponse>,
}

impl Watching {
    /// The next answer: events of whole transactions, or how far etcd is.
    ///
    /// # Errors
    /// When the watch has ended, and why; [`EtcdError::Compacted`] where it can't be begun again at its place.
    pub async fn next(&mut self) -> Result<WatchResponse, EtcdError> {
        match self.answers.message().await {
            Ok(Some(answer)) if answer.compact_revision > 0 => Err(EtcdError::Compacted),
            Ok(Some(answer)) if answer.canceled => Err(EtcdError::Refused(answer.cancel_reason)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(EtcdError::Refused("the watch has ended".into())),
            Err(status) => Err(EtcdError::of(&status)),
        }
    }
}

/// What stands in files, read anew for every connection: they may have been rotated.
struct Secrets {
    tls: Option<ClientTlsConfig>,
    user: Option<(String, String)>,
}

impl Secrets {
    fn read(settings: &Settings) -> Result<Self, String> {
        let text = |path| read_file(path).map(|file| file.text).map_err(|error| error.to_string());
        let tls = match &settings.etcd_ca {
            None => None,
            Some(ca) => {
                let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(text(ca)?));
                if let (Some(chain), Some(key)) = (&settings.etcd_cert, &settings.etcd_key) {
                    tls = tls.identity(Identity::from_pem(text(chain)?, text(key)?));
                }
                Some(tls)
            }
        };
        let user = match (&settings.etcd_user, &settings.etcd_password, &settings.etcd_password_file) {
            (Some(user), Some(password), _) => Some((user.clone(), password.get().to_owned())),
            (Some(user), None, Some(file)) => Some((user.clone(), text(file)?.trim_end().to_owned())),
            _ => None,
        };
        Ok(Self { tls, user })
    }
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(deepest(&error)))
}

async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, EtcdError> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(answered) => answered.map_err(|status| EtcdError::of(&status)),
        Err(_) => Err(EtcdError::Refused("no answer within 5s".into())),
    }
}

fn header(header: Option<ResponseHeader>) -> Result<ResponseHeader, EtcdError> {
    header.ok_or_else(|| EtcdError::Refused("an answer without a header".into()))
}

/// The first key that does not begin with `prefix` and is behind all that do; `\0` is the end of all keys.
fn after(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

fn deepest(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(after(b"/tollgate/"), Bytes::from_static(b"/tollgate0"));
        assert_eq!(after(b"a\xff\xff"), Bytes::from_static(b"b"));
        assert_eq!(after(b"\xff"), Bytes::from_static(b"\0"));
        assert_eq!(after(b""), Bytes::from_static(b"\0"));
    }
}
