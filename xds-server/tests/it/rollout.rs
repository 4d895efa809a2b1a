//! Make before break, as a proxy sees it that takes its time.

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use xds_server::serve::Server;
use xds_server::settings::{Cli, Command};

use crate::proxy::{Proxy, shown};

fn gateway(cluster: &str) -> String {
    format!(
        "version: v1\nproxies: {{ edge: {{ listeners: [public] }} }}\nclusters: {{ {cluster}: {{ endpoints: [127.0.0.1:1] }} }}\n\
         listeners:\n  public:\n    address: 127.0.0.1:80\n    virtual_hosts:\n    - name: all\n      hosts: ['*']\n      \
         routes: [{{ match: {{ path: {{ prefix: / }} }}, to: {cluster} }}]\n"
    )
}

struct Running {
    folder: tempfile::TempDir,
    address: std::net::SocketAddr,
}

impl Running {
    async fn start(text: &str, deadline: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        std::fs::write(&path, text).unwrap();
        let arguments =
            ["xds-server", "serve", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
        let arguments = arguments.map(Path::new).into_iter().chain([Path::new("--config"), &path]);
        let rest = ["--quiet-period", "10ms", "--rollout-deadline", deadline].map(Path::new);
        let Command::Serve(settings) = Cli::parse_from(arguments.chain(rest)).command else {
            panic!("serve")
        };
        let server = Server::build(&settings).await.unwrap();
        let address = server.grpc_address().unwrap();
        tokio::spawn(server.run_until(std::future::pending()));
        Self { folder, address }
    }

    fn edit(&self, text: &str) {
        std::fs::write(self.folder.path().join("new"), text).unwrap();
        std::fs::rename(self.folder.path().join("new"), self.folder.path().join("gateway.yaml")).unwrap();
    }

    /// A proxy that has all of the configuration that routes to `cluster`.
    async fn proxy_with(&self, cluster: &str) -> Proxy {
        let mut proxy = Proxy::connect(self.address, "edge").await;
        proxy.expect_and_accept(&format!("CDS +{cluster}")).await;
        proxy.expect_and_accept("LDS +public").await;
        proxy.subscribe::<ClusterLoadAssignment>(&[cluster]).await;
        proxy.expect_and_accept(&format!("EDS +{cluster}")).await;
        proxy.subscribe::<RouteConfiguration>(&["public"]).await;
        proxy.expect_and_accept("RDS +public").await;
        proxy
    }
}

#[tokio::test]
async fn routes_move_once_the_new_cluster_is_there_and_the_old_one_goes_last() {
    let server = Running::start(&gateway("blue"), "1h").await;
    let mut proxy = server.proxy_with("blue").await;

    server.edit(&gateway("green"));
    let added = proxy.expect("CDS +green").await;
    proxy.expect_silence().await;
    proxy.accept(&added).await;
    // The cluster is accepted, but not ready: its endpoints are still to be asked for.
    proxy.expect_silence().await;
    proxy.subscribe::<ClusterLoadAssignment>(&["green"]).await;
    let endpoints = proxy.expect("EDS +green").await;
    proxy.expect_silence().await;
    proxy.accept(&endpoints).await;
    let routes = proxy.expect("RDS +public").await;
    proxy.expect_silence().await;
    proxy.accept(&routes).await;
    proxy.expect_and_accept("CDS -blue").await;
}

#[tokio::test]
async fn an_edit_of_routes_alone_is_one_push() {
    let server = Running::start(&gateway("blue"), "1h").await;
    let mut proxy = server.proxy_with("blue").await;
    server.edit(&gateway("blue").replace("prefix: /", "prefix: /v2/"));
    proxy.expect_and_accept("RDS +public").await;
    proxy.expect_silence().await;
}

#[tokio::test]
async fn nothing_is_broken_while_a_proxy_refuses_the_new_routes() {
    let server = Running::start(&gateway("blue"), "100ms").await;
    let mut proxy = server.proxy_with("blue").await;
    server.edit(&gateway("green"));
    proxy.expect_and_accept("CDS +green").await;
    proxy.subscribe::<ClusterLoadAssignment>(&["green"]).await;
    proxy.expect_and_accept("EDS +green").await;
    let routes = proxy.expect("RDS +public").await;
    proxy.refuse(&routes, "not these").await;
    // It goes on with its old routes, so what they refer to stays, past every deadline.
    proxy.expect_silence().await;
    // The next edit is what it accepts.
    server.edit(&gateway("blue"));
    proxy.expect_and_accept("RDS +public").await;
    proxy.expect_and_accept("CDS -green").await;
}

#[tokio::test]
async fn one_stuck_proxy_and_edit_after_edit_starve_nobody() {
    let server = Running::start(&gateway("blue"), "1s").await;
    let mut proxy = server.proxy_with("blue").await;
    let _silent = server.proxy_with("blue").await;
    let edits = async {
        // Faster than the deadline, which must not begin anew with each.
        for number in 0..40 {
            server.edit(&gateway(&format!("green-{number}")));
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let routes = async {
        loop {
            let response = proxy.accept_any().await;
            match shown(&response).get(..3) {
                Some("RDS") => return,
                Some("CDS") => {
                    let names: Vec<&str> =
                        response.resources.iter().map(|added| added.name.as_str()).collect();
                    proxy.subscribe::<ClusterLoadAssignment>(&names).await;
                }
                _ => {}
            }
        }
    };
    tokio::select! {
        () = routes => {}
        () = edits => panic!("no routes arrived while edits went on"),
    }
}

#[tokio::test]
async fn a_proxy_that_says_nothing_holds_the_others_up_until_the_deadline_only() {
    let server = Running::start(&gateway("blue"), "1s").await;
    let mut proxy = server.proxy_with("blue").await;
    let _silent = server.proxy_with("blue").await;
    server.edit(&gateway("green"));
    proxy.expect_and_accept("CDS +green").await;
    proxy.subscribe::<ClusterLoadAssignment>(&["green"]).await;
    proxy.expect_and_accept("EDS +green").await;
    proxy.expect_silence().await;
    let moved = tokio::time::timeout(Duration::from_secs(20), proxy.expect_and_accept("RDS +public")).await;
    assert!(moved.is_ok());
    proxy.expect_and_accept("CDS -blue").await;
}
