//! `xds-server wait`: until a version has arrived at every proxy, or it is clear that it will not.

use std::time::{Duration, Instant};

use super::{Client, Document, Group, plain};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A refusal of what was served before is still seen for a moment, until the new version has been pushed: only one that
/// lasts is one of this version.
const SURE: Duration = Duration::from_secs(1);

/// `rollout::report::Trial::outcome` of a change that was taken back.
const ROLLED_BACK: &str = "rolled back";

/// How a version stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every proxy has it.
    Arrived(String),
    /// It will not come, and why.
    Never(String),
    /// A proxy refused part of what the group is at.
    Refused(String),
    /// Who is behind.
    Behind(String),
}

/// Waits for `version` at every proxy of `groups`, or of all where none is named. The sentence to print.
///
/// # Errors
/// Why it did not arrive: rejected, refused, or not in time.
pub async fn wait(
    client: &Client,
    version: &str,
    groups: &[String],
    timeout: Duration,
) -> Result<String, String> {
    let started = Instant::now();
    let mut refused_since = None;
    let mut behind = "the server does not answer".to_owned();
    loop {
        let left = timeout.saturating_sub(started.elapsed());
        let asked = tokio::time::timeout(left.max(PAUSE), client.status()).await;
        let standing = match asked {
            Ok(Ok(document)) => standing(&document, version, groups),
            Ok(Err(unreachable)) => Standing::Behind(unreachable.to_string()),
            // The time is over while asking: what was known before says more.
            Err(_) => Standing::Behind(behind),
        };
        behind = match standing {
            Standing::Arrived(text) => return Ok(text),
            Standing::Never(text) => return Err(text),
            Standing::Refused(text) => {
                if refused_since.get_or_insert_with(Instant::now).elapsed() >= SURE {
                    return Err(text);
                }
                text
            }
            Standing::Behind(text) => {
                refused_since = None;
                text
            }
        };
        if started.elapsed() >= timeout {
            return Err(format!("version {version} did not arrive within {timeout:?}: {behind}"));
        }
        tokio::time::sleep(PAUSE.min(timeout.saturating_sub(started.elapsed()))).await;
    }
}

/// How `version` stands by a server's word.
pub fn standing(document: &Document, version: &str, groups: &[String]) -> Standing {
    let config = &document.config;
    if config.version != version {
        return match &config.error {
            Some(error) if error.version.as_deref() == Some(version) => {
                Standing::Never(format!("version {version} was rejected\n{}", error.text.trim_end()))
            }
            _ => Standing::Behind(format!("the server serves version {}", config.version)),
        };
    }
    if let Some(unknown) = groups.iter().find(|group| !config.groups.contains(group)) {
        let known = config.groups.join(", ");
        return Standing::Never(format!("version {version} has no group `{unknown}`; its groups: {known}"));
    }
    let names = if groups.is_empty() { &config.groups } else { groups };
    let (mut arrived, mut behind, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let Some(group) = document.groups.get(name) else {
            behind.push(format!("{name}: not begun"));
            continue;
        };
        let trial = group.last_trial.as_ref().filter(|trial| trial.version == version);
        match (&group.canary, trial) {
            (Some(canary), _) => behind.push(format!("{name} {canary}")),
            (None, Some(trial)) if group.version != version && trial.outcome == ROLLED_BACK => {
                let reason = plain(&trial.reason);
                return Standing::Never(format!("version {version} was rolled back in {name}: {reason}"));
            }
            _ if group.version != version => behind.push(format!("{name}: not begun")),
            _ if group.refused > 0 || !group.held.is_empty() => refused.push(refusal(document, name, group)),
            _ if group.stage != "settled" || group.arrived < group.proxies => {
                behind.push(progress(document, name, group));
            }
            _ => arrived.push(format!("{name} ({})", group.proxies)),
        }
    }
    match (refused.is_empty(), behind.is_empty()) {
        (false, _) => Standing::Refused(format!("version {version} was refused: {}", refused.join("; "))),
        (true, false) => Standing::Behind(behind.join("; ")),
        (true, true) => Standing::Arrived(format!(
            "version {version} is with every connected proxy: {}",
            arrived.join(", ")
        )),
    }
}

fn refusal(document: &Document, name: &str, group: &Group) -> String {
    let held = group.held.iter().map(|held| plain(&held.to_string()));
    let proxies = document.proxies.iter().filter(|proxy| proxy.group == name);
    let said = proxies.flat_map(|proxy| {
        proxy.refusals().map(|(kind, reason)| plain(&format!("{} says of {kind}: {reason}", proxy.id)))
    });
    let reasons: Vec<String> = held.chain(said).collect();
    match reasons.is_empty() {
        true => format!("{name}: by {} of {} proxies", group.refused, group.proxies),
        false => format!("{name}: {}", reasons.join(", ")),
    }
}

fn progress(document: &Document, name: &str, group: &Group) -> String {
    let Group { stage, arrived, proxies, .. } = group;
    let waiting = document.proxies.iter().filter(|proxy| proxy.group == name && proxy.state() == "pending");
    let waiting: Vec<String> = waiting.map(|proxy| plain(&proxy.id)).collect();
    let who =
        if waiting.is_empty() { String::new() } else { format!(", waiting for {}", waiting.join(", ")) };
    format!("{name}: stage {stage}, {arrived} of {proxies} proxies have it{who}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document(group: Value) -> Document {
        serde_json::from_value(json!({
            "config": { "version": "2", "groups": ["edge"], "unheard_of": 1 },
            "groups": { "edge": group, "gone": { "version": "1", "stage": "make" } },
            "proxies": [
                { "id": "edge-1", "group": "edge", "known_group": true,
                  "types": { "a.Cluster": { "sent": "x", "acked": "w" } } },
            ],
        }))
        .unwrap()
    }

    fn says(document: &Document, version: &str, groups: &[&str]) -> Standing {
        standing(document, version, &groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_version_has_arrived_once_every_group_has_settled_at_it() {
        let settled = json!({ "version": "2", "stage": "settled", "proxies": 3, "arrived": 3 });
        let Standing::Arrived(text) = says(&document(settled), "2", &[]) else { panic!() };
        assert!(text.contains("edge (3)"), "{text}");
        for (group, expected) in [
            (
                json!({ "version": "2", "stage": "move", "proxies": 2, "arrived": 1 }),
                "1 of 2 proxies have it, waiting for edge-1",
            ),
            (json!({ "version": "2", "stage": "settled", "proxies": 2, "arrived": 1 }), "1 of 2 proxies"),
            (json!({ "version": "1", "stage": "settled", "proxies": 2, "arrived": 2 }), "edge: not begun"),
        ] {
            let Standing::Behind(text) = says(&document(group), "2", &["edge"]) else { panic!() };
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_version_on_trial_is_waited_for_and_one_taken_back_never_comes() {
        let trial = |outcome: &str| json!({ "version": "2", "outcome": outcome, "reason": "6 of 100 requests failed" });
        let moving = json!({ "version": "1", "stage": "settled", "proxies": 2, "arrived": 2,
            "canary": { "version": "2", "state": "watching", "proxies": 1, "arrived": 1 } });
        let Standing::Behind(text) = says(&document(moving), "2", &[]) else { panic!() };
        assert!(text.contains("tries 2 with canaries: watching, 1 of 1 have it"), "{text}");
        let back = json!({ "version": "1", "stage": "settled", "proxies": 2, "arrived": 2, "last_trial": trial("rolled back") });
        let Standing::Never(text) = says(&document(back), "2", &[]) else { panic!() };
        assert!(text.ends_with("rolled back in edge: 6 of 100 requests failed"), "{text}");
        let done = json!({ "version": "2", "stage": "settled", "proxies": 2, "arrived": 2, "last_trial": trial("promoted") });
        assert!(matches!(says(&document(done), "2", &[]), Standing::Arrived(_)));
    }

    #[test]
    fn a_refusal_and_a_held_resource_are_told_with_their_reasons() {
        let refused = json!({ "version": "2", "stage": "settled", "proxies": 1, "refused": 1 });
        assert!(matches!(says(&document(refused), "2", &[]), Standing::Refused(_)));
        let held = json!({ "version": "2", "stage": "settled", "proxies": 1, "arrived": 1, "held": [
            { "type": "a.Cluster", "name": "api", "reason": "no\u{1b}[2J", "file": "g.yaml", "line": 3, "column": 5 },
        ]});
        let Standing::Refused(text) = says(&document(held), "2", &[]) else { panic!() };
        assert!(text.ends_with("edge: Cluster api: no [2J (g.yaml:3:5)"), "{text}");
    }

    #[test]
    fn a_rejected_version_and_an_unknown_group_never_come() {
        let mut rejected = document(Value::Object(Default::default()));
        assert!(matches!(says(&rejected, "3", &[]), Standing::Behind(_)));
        assert!(matches!(says(&rejected, "2", &["egde"]), Standing::Never(_)));
        rejected.config.error =
            Some(super::super::ConfigError { version: Some("3".into()), text: "line 7".into(), since: 0 });
        assert!(matches!(says(&rejected, "4", &[]), Standing::Behind(_)));
        let Standing::Never(text) = says(&rejected, "3", &[]) else { panic!() };
        assert!(text.contains("line 7"), "{text}");
    }
}
