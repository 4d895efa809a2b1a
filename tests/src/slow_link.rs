//! A TCP relay that delivers late, as a long line would: what its clients send, or what the server answers.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{ports, runtime::runtime};

/// Pieces under way at once, per connection; more wait in the sender.
const UNDER_WAY: usize = 1024;

/// A running relay; stops when dropped.
#[derive(Debug)]
pub struct SlowLink {
    port: u16,
    relay: JoinHandle<()>,
}

impl SlowLink {
    /// Relays to a loopback port, and holds back by `delay` what goes there.
    pub fn to(port: u16, delay: Duration) -> Result<Self> {
        Self::start(port, delay, Duration::ZERO)
    }

    /// Relays to a loopback port, and holds back by `delay` what comes from there.
    pub fn from(port: u16, delay: Duration) -> Result<Self> {
        Self::start(port, Duration::ZERO, delay)
    }

    fn start(port: u16, there: Duration, back: Duration) -> Result<Self> {
        let (address, server) = (ports::loopback(ports::free()?), ports::loopback(port));
        let listener = runtime().block_on(TcpListener::bind(address)).context("binding the relay")?;
        let relay = runtime().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server, there, back));
            }
        });
        Ok(Self { port: address.port(), relay })
    }

    /// Where to connect instead.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

/// One connection; ends when either side does.
async fn relay(client: TcpStream, server: SocketAddr, there: Duration, back: Duration) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = carry(from_client, to_server, there) => ended,
        ended = carry(from_server, to_client, back) => ended,
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let length = from.read(&mut buffer).await?;
            let piece = (Instant::now() + delay, buffer[..length].to_vec());
            if length == 0 || sender.send(piece).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http_client::Client, upstream::Upstream};

    #[test]
    fn what_is_carried_arrives_late_and_whole() {
        let upstream = Upstream::start("slow").unwrap();
        let delay = Duration::from_millis(50);
        for start in [SlowLink::to, SlowLink::from] {
            let link = start(upstream.address().port(), delay).unwrap();
            let started = Instant::now();
            let reply = Client::new(link.port()).get("/late").send().unwrap();
            assert_eq!(reply.json().unwrap()["path"], "/late");
            assert!(started.elapsed() >= delay);
        }
    }
}
