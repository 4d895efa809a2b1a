//! An upstream that says what reached it: every answer is 200 with the request as JSON.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::{ports, runtime::runtime};

/// Header of every answer: the name of the upstream that gave it.
pub const NAME_HEADER: &str = "x-upstream";

/// What an upstream answers.
pub type Answer = Response<Full<Bytes>>;

/// A running upstream; stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Upstream {
    /// Starts one on a free port; its answers carry the name.
    pub fn start(name: &'static str) -> Result<Self> {
        Self::serve(move |request| answer(name, request))
    }

    /// As [`Self::start`], over TLS.
    pub fn start_tls(name: &'static str, config: Arc<ServerConfig>) -> Result<Self> {
        Self::serve_over(Some(config.into()), move |request| answer(name, request))
    }

    /// Starts one whose answers are empty but for the name, so that a bench measures little of it.
    pub fn start_silent(name: &'static str) -> Result<Self> {
        Self::serve(move |_| async move { Ok(named(name, Bytes::new())) })
    }

    /// Starts one that answers as it is told.
    pub fn serve<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static) -> Result<Self>
    where
        F: Future<Output = Result<Answer, Infallible>> + Send + 'static,
    {
        Self::serve_over(None, answer)
    }

    fn serve_over<F>(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Result<Answer, Infallible>> + Send + 'static,
    {
        let address = ports::loopback(ports::free()?);
        let listener = runtime().block_on(TcpListener::bind(address)).context("binding the upstream")?;
        let server = runtime().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Without it, keep-alive connections wait 40 ms for a delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                let (tls, answer) = (tls.clone(), answer.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve_connection(stream, answer).await,
                        // Who does not finish its handshake gets no answer.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve_connection(stream, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Ok(Self { address, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve_connection<F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: impl Fn(Request<Incoming>) -> F,
) where
    F: Future<Output = Result<Answer, Infallible>>,
{
    // A connection that breaks is the client's to notice.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

async fn answer(name: &'static str, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
    // Byte for byte as Latin-1, since header values need not be UTF-8.
    let headers: Vec<Value> = head
        .headers
        .iter()
        .map(|(name, value)| {
            json!([name.as_str(), value.as_bytes().iter().copied().map(char::from).collect::<String>()])
        })
        .collect();
    let seen = json!({
        "upstream": name,
        "method": head.method.as_str(),
        "path": head.uri.to_string(),
        "headers": headers,
        "body_length": length,
    });
    Ok(named(name, Bytes::from(seen.to_string())))
}

fn named(name: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(NAME_HEADER, HeaderValue::from_static(name));
    response
}
