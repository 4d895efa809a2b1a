//! Time from saving the YAML to the edge answering by the new route.

use std::{
    fmt::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::time::sleep;

use super::Args;
use crate::{
    gateway::{EFFECT_DEADLINE, Gateway},
    load::{Connection, percentile},
    ports::{Ports, loopback},
    runtime::runtime,
    upstream::Upstream,
};

/// Edits before the first that counts.
const WARM_UP: usize = 5;
/// Time between two requests that look for the new route: the resolution of the figures.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Routes beside the one that is added.
const ROUTES: [usize; 2] = [200, 1_000];
/// In which files settle before they are read: xds-server's default, which is part of every time.
const QUIET_MS: f64 = 100.0;

/// What one edit adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    /// A route to a cluster that is there.
    Route,
    /// A route to a cluster that comes with it, and warms before the route moves; the one before goes.
    Cluster,
}

/// Markdown with the quantiles.
pub(super) fn measure(args: &Args) -> Result<String> {
    let upstream = Upstream::start("bench")?;
    let mut text = format!(
        "From saving the YAML to the edge answering by it, {} edits each; the quiet period of {QUIET_MS} ms is part of it:\n\n\
         | routes | an edit adds | p50 | p99 | slowest | p99 past the quiet period |\n|---:|---|---:|---:|---:|---:|\n",
        args.edits
    );
    for routes in ROUTES {
        for (edit, words) in [(Edit::Route, "a route"), (Edit::Cluster, "a route and its cluster")] {
            let times = times(args, routes, edit, upstream.address())?;
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| percentile(&times, share).as_secs_f64() * 1e3);
            let past = p99 - QUIET_MS;
            // Writing to a string can't fail.
            let _ = writeln!(
                text,
                "| {routes} | {words} | {p50:.0} ms | {p99:.0} ms | {max:.0} ms | {past:.0} ms |"
            );
        }
    }
    Ok(text)
}

/// How long each edit took, sorted.
fn times(args: &Args, routes: usize, edit: Edit, upstream: SocketAddr) -> Result<Vec<Duration>> {
    let gateway = Gateway::edge_only("bench-edits", |ports| yaml(ports, routes, edit, None, upstream))?;
    let mut times = Vec::new();
    for n in 0..WARM_UP + args.edits {
        let mark = gateway.xds_log_end()?;
        let text = yaml(gateway.ports(), routes, edit, Some(n), upstream);
        let saved = Instant::now();
        gateway.edit(|_| text)?;
        let time = until_served(gateway.ports().edge, &format!("/added-{n}"), saved)?;
        times.extend((n >= WARM_UP).then_some(time));
        // The next edit is one of its own: the last has reached all proxies.
        gateway.wait_for_entry("configuration pushed", mark)?;
    }
    times.sort_unstable();
    Ok(times)
}

fn yaml(ports: &Ports, routes: usize, edit: Edit, added: Option<usize>, upstream: SocketAddr) -> String {
    let route = |path: String, cluster: &str| {
        format!("          - {{ match: {{ path: {{ exact: {path} }} }}, to: {cluster} }}\n")
    };
    let cluster = |name: &str| format!("  {name}: {{ endpoints: [\"{upstream}\"] }}\n");
    let (mut new, mut clusters) = (String::new(), cluster("bench"));
    if let Some(n) = added {
        let name = if edit == Edit::Cluster { format!("added-{n}") } else { "bench".to_owned() };
        new = route(format!("/added-{n}"), &name);
        clusters.extend((edit == Edit::Cluster).then(|| cluster(&name)));
    }
    let others: String = (0..routes).map(|n| route(format!("/route-{n}"), "bench")).collect();
    format!(
        "version: v1\nproxies: {{ edge: {{ listeners: [public] }} }}\nlisteners:\n  public:\n    address: 127.0.0.1:{}\n    \
         virtual_hosts:\n      - name: bench\n        hosts: [\"*\"]\n        routes:\n{new}{others}clusters:\n{clusters}",
        ports.edge
    )
}

/// Asks on one connection until the route answers.
fn until_served(port: u16, path: &str, saved: Instant) -> Result<Duration> {
    runtime().block_on(async {
        let mut connection = Connection::new(loopback(port));
        while let Err(why) = connection.get(path, &[]).await {
            if saved.elapsed() > EFFECT_DEADLINE {
                bail!("{path} is still not served after {EFFECT_DEADLINE:?}: {why}");
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(saved.elapsed())
    })
}
