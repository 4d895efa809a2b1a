//! Make before break, as a proxy sees it that takes its time.

use std::time::Duration;

use clap::Parser;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use serde_json::Value;
use xds_server::serve::Server;
use xds_server::settings::{Cli, Command};

use crate::proxy::{Proxy, shown};

pub fn gateway(cluster: &str) -> String {
    format!(
        "version: v1\nproxies: {{ edge: {{ listeners: [public] }} }}\nclusters: {{ {cluster}: {{ endpoints: [127.0.0.1:1] }} }}\n\
         listeners:\n  public:\n    address: 127.0.0.1:80\n    virtual_hosts:\n    - name: all\n      hosts: ['*']\n      \
         routes: [{{ match: {{ path: {{ prefix: / }} }}, to: {cluster} }}]\n"
    )
}

pub struct Running {
    pub folder: tempfile::TempDir,
    pub address: std::net::SocketAddr,
    pub http: std::net::SocketAddr,
}

impl Running {
    pub async fn start(text: &str, deadline: &str) -> Self {
        Self::start_on(text, deadline, ([127, 0, 0, 1], 0).into()).await
    }

    pub async fn start_on(text: &str, deadline: &str, http: std::net::SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let http = http.to_string();
        Self::start_in(folder, text, &["--rollout-deadline", deadline, "--http-address", &http]).await
    }

    /// In a folder that may hold files already, with further arguments.
    pub async fn start_in(folder: tempfile::TempDir, text: &str, arguments: &[&str]) -> Self {
        let path = folder.path().join("gateway.yaml");
        std::fs::write(&path, text).unwrap();
        let always = ["xds-server", "serve", "--grpc-address", "127.0.0.1:0", "--wasm-delivery", "file"];
        let always = always.into_iter().chain(["--quota-address", "127.0.0.1:0"]);
        let always = always.chain(["--quiet-period", "10ms", "--config", path.to_str().unwrap()]);
        let Command::Serve(settings) = Cli::parse_from(always.chain(arguments.iter().copied())).command
        else {
            panic!("serve")
        };
        let server = Server::build(&settings).await.unwrap();
        let (address, http) = (server.grpc_address().unwrap(), server.http_address().unwrap());
        tokio::spawn(server.run_until(std::future::pending()));
        Self { folder, address, http }
    }

    pub fn edit(&self, text: &str) {
        std::fs::write(self.folder.path().join("new"), text).unwrap();
        std::fs::rename(self.folder.path().join("new"), self.folder.path().join("gateway.yaml")).unwrap();
    }

    /// The group's entry in `/status`, once it is as `is_there` says.
    async fn status(&self, what: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        self.status_at("/groups/edge", what, is_there).await
    }

    /// What is at this place in `/status`, once it is as `is_there` says.
    pub async fn status_at(&self, pointer: &str, what: &str, is_there: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let url = format!("http://{}/status", self.http);
                let text = reqwest::get(url).await.unwrap().text().await.unwrap();
                let document: Value = serde_json::from_str(&text).unwrap();
                last = document.pointer(pointer).cloned().unwrap_or_default();
                if is_there(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(found.await.is_ok(), "waited for {what}; the status is {last:#}");
        last
    }

    /// A proxy that has all of the configuration that routes to `cluster`.
    pub async fn proxy_with(&self, cluster: &str) -> Proxy {
        self.proxy_as("edge-1", &[], cluster).await
    }

    async fn proxy_as(&self, id: &str, labels: &[(&str, &str)], cluster: &str) -> Proxy {
        let mut proxy = Proxy::connect_as(self.address, "edge", id, labels).await;
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
    proxy.expect_removal_of("blue").await;
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
    // All go back to the routes that were good, and what they refer to has stayed.
    proxy.expect_and_accept("RDS +public").await;
    proxy.expect_removal_of("green").await;
    let status = server.status("the routes held", |status| status["stage"] == "settled").await;
    assert_eq!((&status["held"][0]["type"], &status["held"][0]["name"]), (&"RDS".into(), &"public".into()));
    // For new proxies, too.
    server.proxy_with("blue").await;
    // The next edit is what it accepts.
    server.edit(&gateway("green").replace("prefix: /", "prefix: /v2/"));
    proxy.expect_and_accept("CDS +green").await;
    proxy.subscribe::<ClusterLoadAssignment>(&["green"]).await;
    proxy.expect_and_accept("EDS +green").await;
    proxy.expect_and_accept("RDS +public").await;
    proxy.expect_removal_of("blue").await;
    let status = server.status("nothing held", |status| status["held"] == serde_json::json!([])).await;
    assert!(status["refused"] == 0, "{status:#}");
}

/// Two listeners, each with a cluster of its own.
fn two(a: &str, b: &str) -> String {
    let listener = |name: &str, port: u16, cluster: &str| {
        format!(
            "  {name}:\n    address: 127.0.0.1:{port}\n    virtual_hosts:\n    - name: all\n      hosts: ['*']\n      \
             routes: [{{ match: {{ path: {{ prefix: / }} }}, to: {cluster} }}]\n"
        )
    };
    format!(
        "version: v1\nproxies: {{ edge: {{ listeners: [one, two] }} }}\nclusters:\n  {a}: {{ endpoints: [127.0.0.1:1] }}\n  {b}: \
         {{ endpoints: [127.0.0.1:2], connect_timeout: 7s }}\nlisteners:\n{}{}",
        listener("one", 81, a),
        listener("two", 82, b)
    )
}

#[tokio::test]
async fn a_refused_cluster_holds_what_refers_to_it_and_the_rest_moves_on() {
    let server = Running::start(&two("a1", "b1"), "1h").await;
    let mut proxy = Proxy::connect(server.address, "edge").await;
    proxy.expect_and_accept("CDS +a1 +b1").await;
    proxy.expect_and_accept("LDS +one +two").await;
    proxy.subscribe::<ClusterLoadAssignment>(&["a1", "b1"]).await;
    proxy.expect_and_accept("EDS +a1 +b1").await;
    proxy.subscribe::<RouteConfiguration>(&["one", "two"]).await;
    proxy.expect_and_accept("RDS +one +two").await;
    server.status("all there", |status| status["arrived"] == 1 && status["stage"] == "settled").await;

    server.edit(&two("a2", "b2"));
    let clusters = proxy.expect("CDS +a2 +b2").await;
    proxy.refuse(&clusters, "Error adding/updating cluster(s) b2: connect_timeout 7s is not for me").await;
    // What shared the response with the culprit is sent again, and the routes to it move.
    proxy.expect_and_accept("CDS +a2 -b2").await;
    proxy.subscribe::<ClusterLoadAssignment>(&["a2"]).await;
    proxy.expect_and_accept("EDS +a2").await;
    proxy.expect_and_accept("RDS +one").await;
    proxy.expect_removal_of("a1").await;

    let status = server.status("settled", |status| status["stage"] == "settled").await;
    let held = status["held"].as_array().unwrap();
    assert_eq!(held.len(), 1, "{status:#}");
    assert_eq!((&held[0]["type"], &held[0]["name"]), (&"CDS".into(), &"b2".into()));
    let (line, text) =
        (1..).zip(two("a2", "b2").lines().map(str::to_owned)).find(|(_, l)| l.contains("7s")).unwrap();
    let column = text.find("7s").unwrap() + 1;
    assert_eq!((&held[0]["line"], &held[0]["column"]), (&line.into(), &column.into()), "where it says 7s");
    assert!(held[0]["file"].as_str().unwrap().ends_with("gateway.yaml"), "{status:#}");
    assert_eq!((&held[0]["last_good"], &held[0]["node"]), (&true.into(), &"edge-1".into()));
    assert_eq!((&status["proxies"], &status["refused"]), (&1.into(), &0.into()));

    // An edit elsewhere is no reason to try the cluster again; one of the cluster is.
    server.edit(&two("a3", "b2"));
    proxy.expect_and_accept("CDS +a3").await;
    proxy.subscribe::<ClusterLoadAssignment>(&["a3"]).await;
    proxy.expect_and_accept("EDS +a3").await;
    proxy.expect_and_accept("RDS +one").await;
    proxy.expect_removal_of("a2").await;
    server.edit(&two("a3", "b2").replace("7s", "8s"));
    proxy.expect_and_accept("CDS +b2").await;
}

#[tokio::test]
async fn the_culprit_of_a_refusal_without_a_name_is_found_by_trying_one_by_one() {
    let server = Running::start(&two("a", "b"), "1h").await;
    let mut proxy = Proxy::connect(server.address, "edge").await;
    proxy.expect_and_accept("CDS +a +b").await;
    proxy.expect_and_accept("LDS +one +two").await;
    proxy.subscribe::<ClusterLoadAssignment>(&["a", "b"]).await;
    proxy.expect_and_accept("EDS +a +b").await;
    server.status("all there", |status| status["arrived"] == 1).await;

    // Both change; the second is bad, and the proxy does not say which.
    server.edit(
        &two("a", "b").replace("127.0.0.1:1]", "127.0.0.1:1], connect_timeout: 3s").replace("7s", "9s"),
    );
    let clusters = proxy.expect("CDS +a +b").await;
    proxy.expect_and_accept("EDS +a +b").await;
    proxy.refuse(&clusters, "no").await;
    // Back, both; then each by itself.
    proxy.expect_and_accept("CDS +a +b").await;
    proxy.expect_and_accept("EDS +a +b").await;
    proxy.expect_and_accept("CDS +a").await;
    proxy.expect_and_accept("EDS +a").await;
    let second = proxy.expect("CDS +b").await;
    proxy.expect_and_accept("EDS +b").await;
    proxy.refuse(&second, "no").await;
    proxy.expect_and_accept("CDS +b").await;
    proxy.expect_and_accept("EDS +b").await;
    let status = server.status("one held", |status| status["held"].as_array().unwrap().len() == 1).await;
    assert_eq!(status["held"][0]["name"], "b");
    proxy.expect_silence().await;
}

#[tokio::test]
async fn a_refusal_of_the_first_configuration_holds_up_no_later_one() {
    let server = Running::start(&gateway("blue"), "1h").await;
    let mut proxy = Proxy::connect(server.address, "edge").await;
    proxy.expect_and_accept("CDS +blue").await;
    let listeners = proxy.expect("LDS +public").await;
    proxy.refuse(&listeners, "cannot bind '127.0.0.1:80': Permission denied").await;
    proxy.subscribe::<ClusterLoadAssignment>(&["blue"]).await;
    proxy.expect_and_accept("EDS +blue").await;
    let status = server.status("the refusal", |status| status["held"][0]["name"] == "public").await;
    assert_eq!(
        status["held"][0]["last_good"], false,
        "it may be what a proxy serves by: nothing is taken away"
    );

    server.edit(&gateway("blue").replace("127.0.0.1:1]", "127.0.0.1:2]"));
    proxy.expect_and_accept("EDS +blue").await;
    server.edit(
        &gateway("blue").replace("127.0.0.1:1]", "127.0.0.1:2]").replace("127.0.0.1:80", "127.0.0.1:8080"),
    );
    proxy.expect_and_accept("LDS +public").await;
    server.status("nothing held", |status| status["held"] == serde_json::json!([])).await;
}

fn with_canary(text: &str, canary: &str) -> String {
    text.replace("listeners: [public] }", &format!("listeners: [public], canary: {{ {canary} }} }}"))
}

#[tokio::test]
async fn canaries_go_first_and_the_others_follow_once_they_do_well() {
    let text = with_canary(&gateway("blue"), "labels: { stage: canary }, observe: 1s");
    let server = Running::start(&text, "1h").await;
    let mut stable = server.proxy_with("blue").await;
    let mut canary = server.proxy_as("edge-2", &[("stage", "canary")], "blue").await;

    server.edit(&text.replace("prefix: /", "prefix: /v2/"));
    canary.expect_and_accept("RDS +public").await;
    stable.expect_silence().await;
    let status = server.status("the trial", |status| status["canary"]["state"] == "watching").await;
    assert_eq!((&status["canary"]["proxies"], &status["canary"]["arrived"]), (&1.into(), &1.into()));
    stable.expect_and_accept("RDS +public").await;
    let status = server.status("the end of the trial", |status| status["canary"].is_null()).await;
    assert_eq!(status["last_trial"]["outcome"], "promoted");
    assert_eq!((&status["proxies"], &status["arrived"]), (&2.into(), &2.into()));
    canary.expect_silence().await;
}

#[tokio::test]
async fn canaries_that_refuse_a_change_go_back_and_the_others_never_see_it() {
    let text = with_canary(&gateway("blue"), "labels: { stage: canary }, observe: 1h");
    let server = Running::start(&text, "1h").await;
    let mut stable = server.proxy_with("blue").await;
    let mut canary = server.proxy_as("edge-2", &[("stage", "canary")], "blue").await;
    server.status("all there", |status| status["arrived"] == 2).await;

    server.edit(&text.replace("prefix: /", "prefix: /v2/"));
    let routes = canary.expect("RDS +public").await;
    canary.refuse(&routes, "the path /v2/ is not for me").await;
    canary.expect_and_accept("RDS +public").await;
    let status = server.status("the end of the trial", |status| status["canary"].is_null()).await;
    let trial = &status["last_trial"];
    assert_eq!(trial["outcome"], "rolled back", "{trial}");
    let reason = trial["reason"].as_str().unwrap();
    assert!(
        reason.contains("edge-2 refused it: the path /v2/") && reason.contains("gateway.yaml:10:"),
        "{reason}"
    );
    stable.expect_silence().await;

    // The next change is tried anew.
    server.edit(&text.replace("prefix: /", "prefix: /v3/"));
    canary.expect_and_accept("RDS +public").await;
    stable.expect_silence().await;
}

#[tokio::test]
async fn without_a_canary_connected_a_change_goes_to_all() {
    let text = with_canary(&gateway("blue"), "labels: { stage: canary }, observe: 1h");
    let server = Running::start(&text, "1h").await;
    let mut proxy = server.proxy_with("blue").await;
    server.edit(&text.replace("prefix: /", "prefix: /v2/"));
    proxy.expect_and_accept("RDS +public").await;
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
    proxy.expect_removal_of("blue").await;
}
