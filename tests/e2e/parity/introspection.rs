//! The introspection service of the cases: answers what the step under way says, and fails whoever asks otherwise.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Result, bail};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tollgate_filter_cases::{Answer, INTROSPECTION_AUTHORITY, INTROSPECTION_PATH, Introspected};
use tollgate_tests::{ports, runtime::runtime};

/// Longer than the cases' timeout of 500 ms.
const LATE: Duration = Duration::from_millis(1_500);

#[derive(Default)]
struct State {
    /// Until it is asked.
    expected: Option<Introspected>,
    /// Questions that no step expects, or expects once and gets twice.
    stray: Vec<String>,
}

pub struct Introspection {
    port: u16,
    state: Arc<Mutex<State>>,
    turn: Mutex<()>,
}

/// The time in which one question may come.
pub struct Turn<'a> {
    service: &'a Introspection,
    _one_at_a_time: MutexGuard<'a, ()>,
}

impl Introspection {
    pub fn start() -> Result<Self> {
        let port = ports::free()?;
        let listener = runtime().block_on(TcpListener::bind(ports::loopback(port)))?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        runtime().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { port, state, turn: Mutex::new(()) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers the question of one step.
    pub fn expect(&self, introspected: &Introspected) -> Turn<'_> {
        let turn = self.turn.lock().unwrap();
        self.state.lock().unwrap().expected = Some(introspected.clone());
        Turn { service: self, _one_at_a_time: turn }
    }

    /// What was asked though no step expects it.
    pub fn stray(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().stray)
    }
}

impl Turn<'_> {
    /// Fails unless the right question came; of a dead service nobody can know.
    pub fn was_asked(self) -> Result<()> {
        let left = self.service.state.lock().unwrap().expected.take();
        if left.is_some_and(|expected| expected.answer != Answer::Dead) {
            bail!("the filter should ask about the key, but did not, or asked otherwise");
        }
        Ok(())
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let question = String::from_utf8_lossy(&body).replace(' ', "");
    let host = head.headers.get("host").and_then(|host| host.to_str().ok());
    let expected = {
        let mut state = state.lock().unwrap();
        let expected = state.expected.take_if(|expected| {
            question == format!("{{\"key_sha256\":\"{}\"}}", expected.key_sha256)
                && (head.method.as_str(), head.uri.path()) == ("POST", INTROSPECTION_PATH)
                && host == Some(INTROSPECTION_AUTHORITY)
        });
        if expected.is_none() {
            state.stray.push(format!("{} {} of {host:?}: {question}", head.method, head.uri));
        }
        expected
    };
    let (status, body) = match expected.map(|expected| expected.answer) {
        Some(Answer::Response { status, body }) => (status, body),
        Some(Answer::Late) => {
            tokio::time::sleep(LATE).await;
            (200, r#"{"active": true, "consumer": "too-late"}"#.to_owned())
        }
        // A status that no case has: an unexpected question is seen in the outcome.
        Some(Answer::Dead) | None => (418, format!("nobody was to ask {question}")),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Ok(response)
}
