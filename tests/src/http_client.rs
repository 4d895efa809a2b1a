//! A small blocking HTTP/1.1 client that sends exactly what it is told: no redirects, no retries, no
//! normalised paths, any header bytes; one connection a request.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpSocket, time};

use crate::{ports::loopback, runtime::runtime};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests to one loopback port.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    address: SocketAddr,
}

impl Client {
    /// Requests go to this loopback port.
    pub fn new(port: u16) -> Self {
        Self { address: loopback(port) }
    }

    /// Begins a GET.
    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    /// Begins a POST.
    pub fn post(&self, path: &str) -> Request {
        self.request(Method::POST, path)
    }

    /// Begins a request; the path goes out as it stands here.
    pub fn request(&self, method: Method, path: &str) -> Request {
        Request {
            from: Ipv4Addr::LOCALHOST,
            address: self.address,
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            refused: None,
        }
    }
}

/// A request to be sent.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    from: Ipv4Addr,
    address: SocketAddr,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    refused: Option<http::Error>,
}

impl Request {
    /// Adds a header of any bytes but control characters; those fail the send.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(http::Error::from);
        match field.and_then(|name| Ok((name, HeaderValue::from_bytes(value.as_ref())?))) {
            Ok((name, value)) => drop(self.headers.append(name, value)),
            Err(refused) => self.refused = Some(refused),
        }
        self
    }

    /// Sends it from this address of 127.0.0.0/8.
    pub fn from(mut self, address: Ipv4Addr) -> Self {
        self.from = address;
        self
    }

    /// Adds a bearer token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sets a JSON body.
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into();
        self.header("content-type", "application/json")
    }

    /// Sends it on a new connection, and reads the answer to its end.
    pub fn send(self) -> Result<Reply> {
        let what = format!("{} http://{}{}", self.method, self.address, self.path);
        let answered = runtime().block_on(async { time::timeout(TIMEOUT, self.exchange()).await });
        answered.map_err(Into::into).flatten().with_context(|| what)
    }

    async fn exchange(self) -> Result<Reply> {
        if let Some(refused) = self.refused {
            return Err(refused.into());
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.from, 0).into()).with_context(|| format!("binding to {}", self.from))?;
        let stream = socket.connect(self.address).await.context("connecting")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.parse().context("not a path")?;
        *request.headers_mut() = self.headers;
        let headers = request.headers_mut();
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.address.to_string().parse()?);
        }
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("reading the body")?.to_bytes();
        driver.abort();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// A header's value; `None` where it is absent or no visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }

    /// Itself where the status is this one.
    pub fn expect_status(self, status: u16) -> Result<Self> {
        if self.status != status {
            bail!("status {} where {status} was expected: {}", self.status, self.text());
        }
        Ok(self)
    }
}
