//! Time from saving the YAML to the edge answering by the new route.

use std::time::{Duration, Instant};

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
/// Routes beside the one that is added, so that the gateway is not a toy.
const ROUTES: usize = 200;

/// Markdown with the quantiles.
pub(super) fn measure(args: &Args) -> Result<String> {
    let upstream = Upstream::start("bench")?;
    let yaml = |ports: &Ports, added: Option<usize>| {
        let route =
            |path: String| format!("          - {{ match: {{ path: {{ exact: {path} }} }}, to: bench }}\n");
        let added = added.map(|n| route(format!("/added-{n}"))).unwrap_or_default();
        let others: String = (0..ROUTES).map(|n| route(format!("/route-{n}"))).collect();
        format!(
            "version: v1\nproxies: {{ edge: {{ listeners: [public] }} }}\nlisteners:\n  public:\n    address: \
             127.0.0.1:{}\n    virtual_hosts:\n      - name: bench\n        hosts: [\"*\"]\n        routes:\n{added}\
             {others}clusters:\n  bench: {{ endpoints: [\"{}\"] }}\n",
            ports.edge,
            upstream.address()
        )
    };
    let gateway = Gateway::edge_only("bench-edits", |ports| yaml(ports, None))?;
    let mut times = Vec::new();
    for n in 0..WARM_UP + args.edits {
        let mark = gateway.xds_log_end()?;
        let text = yaml(gateway.ports(), Some(n));
        let saved = Instant::now();
        gateway.edit(|_| text)?;
        let time = until_served(gateway.ports().edge, &format!("/added-{n}"), saved)?;
        times.extend((n >= WARM_UP).then_some(time));
        // The next edit is one of its own: the last has reached all proxies.
        gateway.wait_for_entry("configuration pushed", mark)?;
    }
    times.sort_unstable();
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| percentile(&times, share).as_secs_f64() * 1e3);
    Ok(format!(
        "From saving the YAML ({ROUTES} routes, one more is added) to the edge answering by the new route, {} edits:\n\n\
         | p50 | p99 | slowest |\n|---:|---:|---:|\n| {p50:.0} ms | {p99:.0} ms | {max:.0} ms |\n",
        args.edits
    ))
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
