//! A TCP relay that delivers what its clients send late, as a long line would: the server's words arrive at once.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
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
        let (address, server) = (ports::loopback(ports::free()?), ports::loopback(port));
        let listener = runtime().block_on(TcpListener::bind(address)).context("binding the relay")?;
        let relay = runtime().spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, server, delay));
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
async fn relay(client: TcpStream, server: SocketAddr, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let length = from_client.read(&mut buffer).await?;
            let piece = (Instant::now() + delay, buffer[..length].to_vec());
            if length == 0 || sender.send(piece).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            to_server.write_all(&piece).await?;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
        ended = io::copy(&mut from_server, &mut to_client) => ended.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http_client::Client, upstream::Upstream};

    #[test]
    fn requests_arrive_late_and_whole() {
        let upstream = Upstream::start("slow").unwrap();
        let delay = Duration::from_millis(50);
        let link = SlowLink::to(upstream.address().port(), delay).unwrap();
        let started = Instant::now();
        let reply = Client::new(link.port()).get("/late").send().unwrap();
        assert_eq!(reply.json().unwrap()["path"], "/late");
        assert!(started.elapsed() >= delay);
    }
}
