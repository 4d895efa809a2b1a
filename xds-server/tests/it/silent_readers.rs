//! Readers that do not read, against the program: what they cost it is bounded, and nobody waits for them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Name;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::program::xds_server;

const PATIENCE: Duration = Duration::from_secs(120);
const READERS: usize = 200;
const CLUSTERS: usize = 5_000;
const EDITS: usize = 4;
/// Of a reader, in bytes: one body frame and one response are made ahead, whose bytes are the snapshot's, and HTTP/2 takes
/// no more than the reader has room for. A whole response is some 2 MiB.
const EACH: usize = 256 << 10;
/// Of two snapshots and what it takes to make them, in bytes.
const SNAPSHOTS: usize = 96 << 20;

struct Server {
    process: Child,
    folder: tempfile::TempDir,
    address: String,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.yaml"), yaml(0)).unwrap();
        let mut process = xds_server()
            .args(["serve", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"])
            .args(["--quota-address", "127.0.0.1:0"])
            .args([
                "--wasm-delivery",
                "file",
                "--rollout-deadline",
                "100ms",
                "--quiet-period",
                "10ms",
                "--config",
            ])
            .arg(folder.path().join("gateway.yaml"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let entry = lines.find_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(&line).ok()?;
            (entry["message"] == "listening" && entry["endpoint"] == "grpc").then_some(entry)
        });
        let address = entry.expect("it listens")["address"].as_str().unwrap().to_owned();
        // It must not wait for us to read its log.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, folder, address }
    }

    fn edit(&self, number: usize) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, yaml(number)).unwrap();
        std::fs::rename(new, self.folder.path().join("gateway.yaml")).unwrap();
    }

    /// Resident memory in bytes.
    fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    async fn reader(&self, id: &str) -> Reader {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let channel = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(1 << 30);
        let (requests, receiver) = mpsc::channel(4);
        let node = Some(Node { id: id.into(), cluster: "edge".into(), ..Node::default() });
        let first = DeltaDiscoveryRequest { node, type_url: Cluster::type_url(), ..Default::default() };
        requests.send(first).await.unwrap();
        let responses = client.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap();
        Reader { requests, responses: responses.into_inner() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Reader {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Reader {
    /// Reads and accepts until this cluster has come.
    async fn until(&mut self, name: &str) {
        let read = async {
            loop {
                let response = self.responses.message().await.unwrap().unwrap();
                let there = response.resources.iter().any(|resource| resource.name == name);
                let DeltaDiscoveryResponse { type_url, nonce: response_nonce, .. } = response;
                let accepted = DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() };
                self.requests.send(accepted).await.unwrap();
                if there {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("in time");
    }
}

/// An edit changes every cluster.
fn yaml(edit: usize) -> String {
    let (mut routes, mut clusters) = (String::new(), String::new());
    let names = (0..CLUSTERS).map(|n| format!("a-cluster-with-a-rather-long-name-{n}"));
    for name in names.chain([format!("edit-{edit}")]) {
        routes += &format!("        - {{ match: {{ path: {{ exact: /{name} }} }}, to: {name} }}\n");
        clusters += &format!("  {name}: {{ endpoints: [], connect_timeout: {}s }}\n", edit + 1);
    }
    format!(
        "version: v1\nproxies: {{ edge: {{ listeners: [all] }} }}\nlisteners:\n  all:\n    address: 127.0.0.1:80\n    \
         virtual_hosts:\n      - name: all\n        hosts: ['*']\n        routes:\n{routes}clusters:\n{clusters}"
    )
}

#[tokio::test]
async fn silent_readers_cost_bounded_memory_and_hold_back_nobody() {
    let server = Server::start();
    let mut reader = server.reader("reader").await;
    reader.until("edit-0").await;
    // What an edit costs by itself is no reader's.
    server.edit(1);
    reader.until("edit-1").await;
    let before = server.resident();
    let mut silent = Vec::new();
    for n in 0..READERS {
        silent.push(server.reader(&format!("silent-{n}")).await);
    }
    for edit in 2..2 + EDITS {
        server.edit(edit);
        reader.until(&format!("edit-{edit}")).await;
    }
    let grown = server.resident().saturating_sub(before);
    eprintln!("{READERS} silent readers: {} KiB each", (grown / READERS) >> 10);
    assert!(grown < SNAPSHOTS + READERS * EACH, "{READERS} silent readers cost {} MiB", grown >> 20);
    // What they missed is not lost.
    let last = format!("edit-{}", 1 + EDITS);
    silent[0].until(&last).await;
}
