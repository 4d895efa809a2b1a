//! A bad network between Envoy and the modules that it fetches.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tollgate_tests::{
    http_client::Client,
    upstream::{Answer, Upstream},
};

/// What happens to a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// 503.
    Fails,
    /// All bytes come, and one of them is wrong.
    ComesBroken,
    /// It comes, late.
    ComesLate,
}

#[derive(Debug, Default)]
struct State {
    /// Fetches to come; all after them come at once.
    next: Vec<Fetch>,
    seen: usize,
}

/// Relays to xds-server's HTTP port.
pub(super) struct Relay {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

impl Relay {
    pub(super) fn start(xds_http: u16) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let upstream = Upstream::serve(move |request| {
            let (path, state) = (request.uri().path().to_owned(), shared.clone());
            async move {
                let fetch = {
                    let mut state = state.lock().unwrap();
                    state.seen += 1;
                    (!state.next.is_empty()).then(|| state.next.remove(0))
                };
                Ok::<Answer, Infallible>(relay(xds_http, path, fetch).await)
            }
        });
        Self { upstream: upstream.unwrap(), state }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// What becomes of the next fetches.
    pub(super) fn next(&self, fetches: &[Fetch]) {
        let mut state = self.state.lock().unwrap();
        state.next = fetches.to_vec();
    }

    /// Fetches so far.
    pub(super) fn seen(&self) -> usize {
        self.state.lock().unwrap().seen
    }
}

async fn relay(xds_http: u16, path: String, fetch: Option<Fetch>) -> Answer {
    let answer = |status: u16, body: Vec<u8>| {
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status.try_into().unwrap();
        answer
    };
    if fetch == Some(Fetch::Fails) {
        return answer(503, Vec::new());
    }
    if fetch == Some(Fetch::ComesLate) {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let reply = tokio::task::spawn_blocking(move || Client::new(xds_http).get(&path).send()).await.unwrap();
    let Ok(reply) = reply else { return answer(503, Vec::new()) };
    let mut body = reply.body.to_vec();
    if let (Some(Fetch::ComesBroken), Some(last)) = (fetch, body.last_mut()) {
        *last ^= 1;
    }
    answer(reply.status, body)
}
