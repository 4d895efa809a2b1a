//! An HTTP/1.1 client over TLS that tells which certificate it was shown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    client::Resumption,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{net::TcpStream, time};
use tokio_rustls::TlsConnector;

use super::{Authority, Issued, provider};
use crate::{http_client::Reply, ports::loopback, runtime::runtime};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Opens connections to one loopback port. Every handshake is a full one.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    server_name: ServerName<'static>,
    roots: RootCertStore,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<Vec<u8>>,
    identity: Option<Issued>,
}

impl Client {
    /// Asks for that server, and believes that authority.
    pub fn new(port: u16, server_name: &'static str, authority: &Authority) -> Result<Self> {
        Ok(Self {
            address: loopback(port),
            server_name: server_name.try_into()?,
            roots: authority.roots()?,
            versions: rustls::ALL_VERSIONS.to_vec(),
            protocols: Vec::new(),
            identity: None,
        })
    }

    /// Shows a certificate where it is asked for one.
    pub fn showing(self, identity: &Issued) -> Self {
        Self { identity: Some(identity.clone()), ..self }
    }

    /// Speaks that version alone.
    pub fn version(self, version: &'static SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], ..self }
    }

    /// Offers these protocols (ALPN).
    pub fn offering(self, protocols: &[&str]) -> Self {
        Self { protocols: protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(), ..self }
    }

    /// A new connection, once its handshake is done.
    pub async fn connect(&self) -> Result<Connection> {
        time::timeout(TIMEOUT, self.handshake()).await.context("no handshake in time")?
    }

    /// One GET on a new connection.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        runtime().block_on(async { self.connect().await?.get(path, headers).await })
    }

    fn config(&self) -> Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&self.versions)?
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            Some(shown) => builder.with_client_auth_cert(vec![shown.certificate()?], shown.private_key()?)?,
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols.clone_from(&self.protocols);
        Ok(config)
    }

    async fn handshake(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(self.config()?));
        let stream = connector.connect(self.server_name.clone(), stream).await.context("TLS handshake")?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(|chain| chain.first().cloned());
        let protocol = session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let certificate = certificate.context("the server showed no certificate")?;
        Ok(Connection { sender, certificate, protocol })
    }
}

/// A connection that is kept open.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// What the server has shown.
    pub certificate: CertificateDer<'static>,
    /// What was agreed on (ALPN).
    pub protocol: Option<String>,
}

impl Connection {
    /// One GET. Fails where the server has closed the connection.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        let mut request = Request::get(path).header("host", "tls.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let exchange = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request.body(Empty::new())?).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.context("reading the body")?.to_bytes();
            Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
        };
        time::timeout(TIMEOUT, exchange).await.context("no answer in time")?
    }
}
