//! Starts the application in this process on free ports, and speaks HTTP to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use api_service::application::{Application, Surroundings};
use api_service::clock::Clock;
use api_service::events::{Event, MemoryEvents};
use api_service::settings::{Cli, Command, Settings};
use clap::Parser as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Nothing in a test takes this long unless it is broken.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A password that follows the rules.
pub const PASSWORD: &str = "correct horse battery staple";

/// Settings for a test: free ports, a database in memory, and `flags`.
pub fn settings(flags: &[&str]) -> Settings {
    let fixed =
        ["api-service", "serve", "--public-address", "127.0.0.1:0", "--internal-address", "127.0.0.1:0"];
    let mut all = fixed.to_vec();
    if !flags.contains(&"--database") {
        all.extend(["--database", "sqlite::memory:"]);
    }
    all.extend(flags);
    let Command::Serve(settings) = Cli::parse_from(all).command;
    settings
}

/// A running application.
pub struct Api {
    pub public: SocketAddr,
    pub internal: SocketAddr,
    events: Arc<MemoryEvents>,
    now: Arc<AtomicI64>,
    client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<anyhow::Result<()>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Api {
    pub async fn start(flags: &[&str]) -> Self {
        let events = Arc::new(MemoryEvents::default());
        let now = Arc::new(AtomicI64::new(OffsetDateTime::now_utc().unix_timestamp()));
        let seconds = Arc::clone(&now);
        let clock =
            Clock::new(move || OffsetDateTime::from_unix_timestamp(seconds.load(Ordering::Relaxed)).unwrap());
        let surroundings = Surroundings { clock, events: events.clone() };
        let application = Application::build_in(settings(flags), surroundings).await.unwrap();
        let (public, internal) = (application.public_address(), application.internal_address());
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(application.run_until_stopped(async {
            let _ = stopped.await;
        }));
        // A workspace build gives the client TLS, and with it the need to say whose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
        Self { public, internal, events, now, client, stop: Some(stop), run }
    }

    /// Begins the drain; [`Self::stopped`] waits for its end.
    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub async fn stopped(self) -> anyhow::Result<()> {
        tokio::time::timeout(DEADLINE, self.run).await.expect("did not stop in time").unwrap()
    }

    /// Moves the service's clock.
    pub fn advance(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn today(&self) -> time::Date {
        OffsetDateTime::from_unix_timestamp(self.now.load(Ordering::Relaxed)).unwrap().date()
    }

    pub fn event_names(&self) -> Vec<&'static str> {
        self.events.all().iter().map(Event::name).collect()
    }

    /// Any request, to the public port where `path` does not say otherwise.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.public))
    }

    pub fn internal(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.internal))
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        send(self.request(Method::POST, path).json(&body)).await
    }

    /// The same as the gateway sends it for `consumer`.
    pub async fn get_as(&self, consumer: &str, path: &str) -> Answer {
        send(self.request(Method::GET, path).header("x-consumer-id", consumer)).await
    }

    pub async fn post_as(&self, consumer: &str, path: &str, body: Value) -> Answer {
        send(self.request(Method::POST, path).header("x-consumer-id", consumer).json(&body)).await
    }

    pub async fn delete_as(&self, consumer: &str, path: &str) -> Answer {
        send(self.request(Method::DELETE, path).header("x-consumer-id", consumer)).await
    }

    /// Registers `name@example.com` and returns the id.
    pub async fn account(&self, name: &str) -> String {
        let body = json!({"email": format!("{name}@example.com"), "password": PASSWORD});
        let answer = self.post("/v1/accounts", body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Logs `name@example.com` in and returns the tokens.
    pub async fn log_in(&self, name: &str) -> Value {
        let body = json!({"email": format!("{name}@example.com"), "password": PASSWORD});
        let answer = self.post("/v1/sessions", body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.json()
    }

    /// The value of a metric, by its full line up to the space; 0 where it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = send(self.internal(Method::GET, "/metrics")).await.text;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        lines.next().map_or(0.0, |value| value.parse().unwrap())
    }
}

pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts a whole problem document: RFC 9457's members, the status twice, the request id twice.
    #[track_caller]
    pub fn is_problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("https://tollgate.example/problems/{kind}"), "{}", self.text);
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty());
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        problem
    }
}

/// Tries `probe` until it gives something.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let attempts = async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, attempts).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}
