//! The clients: each a delta ADS stream that subscribes as an Envoy does (clusters by wildcard, then endpoints and
//! routes by name), acknowledges everything, and notes when it has what.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context as Wake, Poll},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    task::LocalSet,
    time::timeout,
};

use super::{
    http2::Connection,
    server::{Change, Contender, Server},
    wire::{CLUSTER, ENDPOINT, ROUTE, Request, Response},
};

/// Until everybody must have what is being sent.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two changes, for the ACKs of the first.
const PAUSE: Duration = Duration::from_millis(200);
/// Until memory is looked at, once all are connected.
const REST: Duration = Duration::from_secs(1);
/// What is read at a time.
const SCRATCH: usize = 256 << 10;

/// How many clients of how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub clusters: usize,
    pub connections: usize,
    pub streams_per_connection: usize,
    /// Changes to make.
    pub changes: usize,
}

/// What was seen at one size.
#[derive(Debug)]
pub(super) struct Seen {
    /// Until every client had everything.
    pub connected: Duration,
    /// The server's processor time for that.
    pub connecting_cpu: Duration,
    /// The server's, then.
    pub resident: u64,
    pub changes: Vec<Arrival>,
    /// The server's processor time for a change and its ACKs, on average.
    pub change_cpu: Duration,
}

/// One change, and when it was where.
#[derive(Debug)]
pub(super) struct Arrival {
    pub publish: Duration,
    pub median: Duration,
    pub last: Duration,
}

/// Starts a server, connects everybody, changes clusters.
pub(super) fn run(contender: &Contender, size: Size) -> Result<Seen> {
    let server = contender.start(size.clusters)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = measure(&server, contender, size);
    let seen = LocalSet::new().block_on(&runtime, all);
    seen.with_context(|| format!("{}, {size:?}", contender.name))
}

async fn measure(server: &Server, contender: &Contender, size: Size) -> Result<Seen> {
    let clients = Rc::new(Clients::new(contender, size));
    let (started, idle_cpu) = (Instant::now(), server.cpu_time()?);
    for number in 0..size.connections {
        let stream = TcpStream::connect(server.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let clients = clients.clone();
        tokio::task::spawn_local(async move {
            if let Err(why) = clients.follow(stream, server_name(number)).await {
                clients.fail(why);
            }
        });
    }
    clients.until("everybody's state", || clients.full.get() == clients.total()).await?;
    let connected = started.elapsed();
    tokio::time::sleep(REST).await;
    let resident = server.resident()?;
    let connected_cpu = server.cpu_time()?;
    let mut changes = Vec::new();
    for _ in 0..size.changes {
        clients.arrivals.borrow_mut().clear();
        let change = server.change().await?;
        clients.until("the change", || clients.arrivals.borrow().len() == clients.total()).await?;
        changes.push(clients.arrival(&change)?);
        tokio::time::sleep(PAUSE).await;
    }
    let change_cpu = (server.cpu_time()? - connected_cpu) / u32::try_from(size.changes.max(1))?;
    Ok(Seen { connected, connecting_cpu: connected_cpu - idle_cpu, resident, changes, change_cpu })
}

fn server_name(number: usize) -> String {
    format!("client-{number}.bench")
}

/// What all clients share; one thread drives them.
struct Clients {
    size: Size,
    resends_endpoints: bool,
    /// How many have everything.
    full: Cell<usize>,
    /// Who has the change, by name of its cluster.
    arrivals: RefCell<Vec<(String, SystemTime)>>,
    failure: RefCell<Option<anyhow::Error>>,
    news: Notify,
    scratch: RefCell<Vec<u8>>,
    /// The subscription to all endpoints, which every client sends.
    endpoints: RefCell<Vec<u8>>,
}

/// One client's progress.
#[derive(Debug, Clone, Default)]
struct Client {
    clusters: usize,
    assignments: usize,
    is_full: bool,
    /// The changed cluster, while its endpoints are still to come.
    changed: Option<String>,
}

impl Clients {
    fn new(contender: &Contender, size: Size) -> Self {
        Self {
            size,
            resends_endpoints: contender.resends_endpoints,
            full: Cell::default(),
            arrivals: RefCell::default(),
            failure: RefCell::default(),
            news: Notify::new(),
            scratch: RefCell::new(vec![0; SCRATCH]),
            endpoints: RefCell::default(),
        }
    }

    fn total(&self) -> usize {
        self.size.connections * self.size.streams_per_connection
    }

    /// Waits for what the clients report.
    async fn until(&self, what: &str, holds: impl Fn() -> bool) -> Result<()> {
        let all = async {
            while !holds() {
                self.news.notified().await;
                if let Some(why) = self.failure.borrow_mut().take() {
                    return Err(why);
                }
            }
            Ok(())
        };
        timeout(PATIENCE, all).await.map_err(|_| {
            let (full, have) = (self.full.get(), self.arrivals.borrow().len());
            anyhow!("{what} did not come: of {}, {full} have all and {have} the change", self.total())
        })?
    }

    fn fail(&self, why: anyhow::Error) {
        self.failure.borrow_mut().get_or_insert(why);
        self.news.notify_one();
    }

    fn arrival(&self, change: &Change) -> Result<Arrival> {
        let arrivals = self.arrivals.borrow();
        if let Some((other, _)) = arrivals.iter().find(|(cluster, _)| *cluster != change.cluster) {
            bail!("{} was changed, and {other} arrived", change.cluster);
        }
        // A clock that was set back meanwhile is taken for no time.
        let times = arrivals.iter().map(|(_, at)| at.duration_since(change.started).unwrap_or_default());
        let times: Vec<_> = times.collect();
        Ok(Arrival {
            publish: change.took,
            median: times.get(times.len() / 2).copied().unwrap_or_default(),
            last: times.last().copied().unwrap_or_default(),
        })
    }

    /// Drives one connection and its streams until the server ends it.
    async fn follow(&self, mut stream: TcpStream, authority: String) -> Result<()> {
        let mut connection = Connection::new(&authority, self.size.streams_per_connection);
        let mut clients = vec![Client::default(); self.size.streams_per_connection];
        for number in 0..clients.len() {
            let first = Request { node: Some(&authority), type_url: CLUSTER, ..Request::default() };
            connection.send(number, first.write());
        }
        poll_fn(|cx| match self.exchange(cx, &mut stream, &mut connection, &mut clients) {
            Ok(()) => Poll::Pending,
            Err(why) => Poll::Ready(Err(why)),
        })
        .await
    }

    /// Writes and reads what can be, now.
    fn exchange(
        &self,
        cx: &mut Wake<'_>,
        stream: &mut TcpStream,
        connection: &mut Connection,
        clients: &mut [Client],
    ) -> Result<()> {
        let mut scratch = self.scratch.borrow_mut();
        loop {
            while !connection.pending().is_empty() {
                match Pin::new(&mut *stream).poll_write(cx, connection.pending()) {
                    Poll::Ready(written) => connection.advance(written?),
                    Poll::Pending => break,
                }
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(read) => read?,
            }
            if buffer.filled().is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            connection.receive(buffer.filled(), |number, message| {
                self.on_response(&mut clients[number], &Response::read(message)?)
            })?;
        }
    }

    /// What the client answers: an ACK, and its next subscription.
    fn on_response(&self, client: &mut Client, response: &Response<'_>) -> Result<Vec<Vec<u8>>> {
        let (type_url, nonce) = (response.type_url, response.nonce);
        let mut replies = vec![Request { type_url, nonce, ..Request::default() }.write()];
        let count = response.resources.len();
        if client.is_full {
            self.on_change(client, response)?;
        } else if type_url == CLUSTER {
            client.clusters += count;
            if client.clusters == self.size.clusters {
                replies.push(self.subscribe_to_endpoints(response)?);
            }
        } else if type_url == ENDPOINT {
            client.assignments += count;
            if client.assignments == self.size.clusters {
                let subscribe = ["routes".to_owned()];
                replies
                    .push(Request { type_url: ROUTE, subscribe: &subscribe, ..Request::default() }.write());
            }
        } else if count == 1 {
            client.is_full = true;
            self.full.set(self.full.get() + 1);
            if self.full.get() == self.total() {
                self.news.notify_one();
            }
        }
        Ok(replies)
    }

    fn on_change(&self, client: &mut Client, response: &Response<'_>) -> Result<()> {
        let [_] = &response.resources[..] else {
            bail!("{} resources of {} came for one change", response.resources.len(), response.type_url);
        };
        let name = response.names().next().context("no name")??;
        let arrived = match response.type_url {
            CLUSTER if self.resends_endpoints => {
                client.changed = Some(name.to_owned());
                None
            }
            CLUSTER => Some(name.to_owned()),
            ENDPOINT => client.changed.take_if(|changed| changed == name),
            other => bail!("a change of {other}"),
        };
        if let Some(name) = arrived {
            let mut arrivals = self.arrivals.borrow_mut();
            arrivals.push((name, SystemTime::now()));
            if arrivals.len() == self.total() {
                self.news.notify_one();
            }
        }
        Ok(())
    }

    fn subscribe_to_endpoints(&self, clusters: &Response<'_>) -> Result<Vec<u8>> {
        let mut endpoints = self.endpoints.borrow_mut();
        if endpoints.is_empty() {
            let names: Vec<_> = clusters.names().map(|name| Ok(name?.to_owned())).collect::<Result<_>>()?;
            if names.len() < self.size.clusters {
                bail!("the clusters came in more than one response");
            }
            *endpoints = Request { type_url: ENDPOINT, subscribe: &names, ..Request::default() }.write();
        }
        Ok(endpoints.clone())
    }
}
