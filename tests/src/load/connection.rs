//! One keep-alive connection of a load.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How much of an error's body stands in the reason.
const BODY_SHOWN: usize = 120;

pub(crate) struct Connection {
    address: SocketAddr,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, sender: None }
    }

    /// Sends one request and reads its answer; the error is the reason for the account.
    pub(crate) async fn get(&mut self, path: &str, headers: &[(&'static str, String)]) -> Result<(), String> {
        let mut request = Request::get(path).header("host", "load.test");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Empty::new()).map_err(|why| format!("not a request: {why}"))?;
        let mut sender = self.ready().await?;
        let response = sender.send_request(request).await.map_err(|why| format!("no answer: {why:?}"))?;
        let status = response.status();
        let body =
            response.into_body().collect().await.map_err(|why| format!("broken body: {why:?}"))?.to_bytes();
        self.sender = Some(sender);
        if status == 200 {
            return Ok(());
        }
        let shown: String = String::from_utf8_lossy(&body).chars().take(BODY_SHOWN).collect();
        Err(format!("status {} {shown}", status.as_u16()))
    }

    /// The open connection, or a new one where the server has closed it since the last answer.
    async fn ready(&mut self) -> Result<SendRequest<Empty<Bytes>>, String> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = TcpStream::connect(self.address).await.map_err(|why| format!("connecting: {why}"))?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|why| format!("handshake: {why}"))?;
        tokio::spawn(connection);
        sender.ready().await.map_err(|why| format!("handshake: {why}"))?;
        Ok(sender)
    }
}
