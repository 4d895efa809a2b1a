//! `xds-server status`: a server's status for people, as tables.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::{Client, Document, Trial, plain};

/// Time between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(1);
/// Erases the screen and goes to its first line (ECMA-48, ED and CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Prints once.
///
/// # Errors
/// When the server can't be reached.
pub async fn show(client: &Client, json: bool) -> Result<String, super::Unreachable> {
    match json {
        true => Ok(format!("{}\n", client.text().await?.trim_end())),
        false => Ok(tables(&client.status().await?)),
    }
}

/// Prints to standard output until it is closed. A server that can't be reached is said, and asked again.
pub async fn watch(client: &Client, json: bool) {
    let mut out = std::io::stdout();
    let redraw = out.is_terminal() && !json;
    let mut last = String::new();
    loop {
        let shown = match (json, redraw) {
            (true, _) => client.text().await.map(|text| format!("{}\n", text.trim_end())),
            (false, true) => client.status().await.map(|document| format!("{CLEAR}{}", tables(&document))),
            (false, false) => client.status().await.map(|document| lines(&document)),
        };
        let shown = match (shown, json) {
            (Ok(shown), _) => shown,
            // Readers of JSON get JSON only.
            (Err(error), true) => {
                let _ = writeln!(std::io::stderr(), "error: {error}");
                String::new()
            }
            (Err(error), false) => format!("{}error: {error}\n", if redraw { CLEAR } else { "" }),
        };
        if redraw || shown != last {
            if out.write_all(shown.as_bytes()).and_then(|()| out.flush()).is_err() {
                return;
            }
            last = shown;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// A line a group, and one for what is wrong: nothing in them changes with time alone.
fn lines(document: &Document) -> String {
    let mut text = String::new();
    for (name, group) in &document.groups {
        text += &format!(
            "{} version={} stage={} proxies={} arrived={} refused={} pending={} held={}\n",
            plain(name),
            group.version,
            group.stage,
            group.proxies,
            group.arrived,
            group.refused,
            group.pending(),
            group.held.len()
        );
    }
    for warning in &document.config.warnings {
        text += &format!("{}\n", plain(&warning.to_string()));
    }
    if let Some(error) = document.etcd.as_ref().and_then(|etcd| etcd.error.as_ref()) {
        text += &format!("etcd is not followed: {}\n", plain(error));
    }
    for warning in &document.port.warnings {
        text += &format!("warning: {}\n", plain(warning));
    }
    let error = document.config.error.as_ref();
    text + &error.map_or_else(String::new, |error| format!("error: {}\n", plain(&error.text)))
}

fn tables(document: &Document) -> String {
    let config = &document.config;
    let age = seconds(document.now.saturating_sub(config.loaded_at));
    let revision = config.revision.map(|revision| format!(" at revision {revision}")).unwrap_or_default();
    let mut text = format!("version {} of {}{revision}, for {age}\n", config.version, plain(&config.source));
    if let Some(etcd) = document.etcd.as_ref().filter(|etcd| !etcd.connected) {
        let (age, reason) = (seconds(document.now.saturating_sub(etcd.since)), etcd.error.as_deref());
        text +=
            &format!("etcd is not followed for {age}: {}\n", plain(reason.unwrap_or("not connected yet")));
    }
    text.push('\n');

    let mut rows = vec![
        ["GROUP", "VERSION", "STAGE", "PROXIES", "ARRIVED", "REFUSED", "PENDING", "RESOURCES"]
            .map(String::from),
    ];
    rows.extend(document.groups.iter().map(|(name, group)| {
        let counts = [group.proxies, group.arrived, group.refused, group.pending(), group.resources];
        let [proxies, arrived, refused, pending, resources] = counts.map(|count| count.to_string());
        [
            plain(name),
            group.version.clone(),
            group.stage.clone(),
            proxies,
            arrived,
            refused,
            pending,
            resources,
        ]
    }));
    text += &table(&rows);
    for (name, group) in &document.groups {
        for held in &group.held {
            text += &format!("  {} holds {}\n", plain(name), plain(&held.to_string()));
        }
        if let Some(canary) = &group.canary {
            text += &format!("  {} {}\n", plain(name), plain(&canary.to_string()));
        } else if let Some(Trial { version, outcome, reason }) = &group.last_trial {
            text += &format!("  {} {outcome} {version}: {}\n", plain(name), plain(reason));
        }
    }

    let mut rows = vec![["PROXY", "GROUP", "AGENT", "FROM", "CONNECTED", "STATE"].map(String::from)];
    rows.extend(document.proxies.iter().map(|proxy| {
        let peer = proxy.peer.clone().unwrap_or_default();
        let state = proxy.state().to_owned();
        let connected = seconds(proxy.connected_seconds);
        [plain(&proxy.id), plain(&proxy.group), plain(&proxy.agent), peer, connected, state]
    }));
    text += &format!("\n{}", table(&rows));
    for proxy in &document.proxies {
        for (kind, reason) in proxy.refusals() {
            text += &format!("  {} refused {kind}: {}\n", plain(&proxy.id), plain(reason));
        }
    }
    for warning in &config.warnings {
        text += &format!("\n{}\n", plain(&warning.to_string()));
    }
    for warning in &document.port.warnings {
        text += &format!("\nwarning: {}\n", plain(warning));
    }
    if let Some(error) = &config.error {
        let age = seconds(document.now.saturating_sub(error.since));
        // Line breaks are the report's own; what it quotes was written by whoever writes the YAML.
        let report: Vec<String> = error.text.trim_end().lines().map(printable).collect();
        text += &format!("\nrejected for {age}; the version above keeps serving\n{}\n", report.join("\n"));
    }
    text
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> =
        (0..N).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}

/// The two largest units: `2d 3h`, `5m 0s`, `7s`.
fn seconds(total: u64) -> String {
    let (days, hours, minutes) = (total / 86_400, total / 3_600 % 24, total / 60 % 60);
    match () {
        () if days > 0 => format!("{days}d {hours}h"),
        () if hours > 0 => format!("{hours}h {minutes}m"),
        () if minutes > 0 => format!("{minutes}m {}s", total % 60),
        () => format!("{total}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_show_who_refused_what_and_why() {
        let document: Document = serde_json::from_value(json!({
            "now": 100_000,
            "etcd": { "connected": false, "error": "a:1: no\u{1b}", "since": 99_998 },
            "config": { "source": "g.yaml", "version": "abc", "revision": 7, "loaded_at": 99_000,
                        "warnings": [{ "file": "g.yaml", "line": 3, "column": 7, "message": "a.key is not the key" }],
                        "error": { "text": "error: no\n --> g.yaml:1:1\n", "since": 99_990 } },
            "port": { "warnings": ["port.pem: the certificate expired"] },
            "groups": { "edge": { "version": "abc", "stage": "move", "proxies": 4, "arrived": 1, "refused": 1,
                        "held": [{ "type": "x.Cluster", "name": "api", "reason": "bad" }] } },
            "proxies": [{ "id": "edge-1\u{7}", "group": "edge", "known_group": true, "agent": "envoy 1.40.0",
                        "connected_seconds": 3_700, "peer": "127.0.0.1:1",
                        "types": { "x.Cluster": { "rejected": 1, "nack": { "message": "un\u{1b}known" } } } }],
        }))
        .unwrap();
        let shown = tables(&document);
        for line in [
            "version abc of g.yaml at revision 7, for 16m 40s",
            "etcd is not followed for 2s: a:1: no",
            "edge   abc      move   4        1        1        3        0",
            "  edge holds Cluster api: bad",
            "edge-1  edge   envoy 1.40.0  127.0.0.1:1  1h 1m      refused",
            "  edge-1 refused Cluster: un known",
            "warning: g.yaml:3:7: a.key is not the key",
            "warning: port.pem: the certificate expired",
            "rejected for 10s; the version above keeps serving",
            " --> g.yaml:1:1",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\nis not in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'));
    }
}
