//! Routes: one action each, fields that fit the action and the match, names that tell them apart.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_filter_config::{CONSUMER_HEADER, CREDENTIAL_ID_HEADER, CREDENTIAL_TYPE_HEADER};

use super::{known, policies, within};
use crate::gateway::model::{
    AuthProvider, Gateway, HeaderChanges, HeaderEdits, PathMatch, Redirect, Retry, Rewrite, Route,
    ValueMatch, VirtualHost,
};
use crate::gateway::position::join;
use crate::gateway::report::Problem;
use crate::gateway::route_name;

/// Envoy's limit on a direct response's body (`max_direct_response_body_size_bytes`).
const MAX_BODY: usize = 4096;

/// All routes of one virtual host.
pub(super) fn check(
    gateway: &Gateway,
    pointer: &str,
    virtual_host: &VirtualHost,
    problems: &mut Vec<Problem>,
) {
    let mut names = BTreeMap::new();
    for (index, route) in virtual_host.routes.iter().enumerate() {
        let pointer = format!("{pointer}/routes/{index}");
        self::route(gateway, &pointer, route, problems);
        let name = route_name(route);
        let Some(first) = names.insert(name.clone(), index) else { continue };
        problems.push(match &route.name {
            Some(_) => Problem::value(
                format!("{pointer}/name"),
                format!("route `{name}` stands twice in this virtual host"),
            ),
            None => Problem::value(
                format!("{pointer}/match"),
                format!("route {first} has the same match, so this one is never taken"),
            )
            .help("routes are counted from 0; take one away, or make the matches differ"),
        });
    }
}

/// Headers that the auth filter sets or removes. Envoy chooses the route anew once they have changed, but
/// filters keep reading the policies of the first one: a route may not be chosen by them.
fn auth_headers(gateway: &Gateway) -> BTreeSet<&str> {
    let mut headers = BTreeSet::from([CONSUMER_HEADER, CREDENTIAL_TYPE_HEADER, CREDENTIAL_ID_HEADER]);
    for provider in gateway.policies.auth.values().flat_map(|policy| policy.providers().1) {
        match provider {
            AuthProvider::Jwt(jwt) => {
                headers.insert(jwt.header.as_str());
                headers.extend(jwt.claims_to_headers.iter().map(|copy| copy.header.as_str()));
            }
            AuthProvider::ApiKey(keys) => {
                headers.insert(keys.header.as_str());
            }
        }
    }
    headers
}

fn route(gateway: &Gateway, pointer: &str, route: &Route, problems: &mut Vec<Problem>) {
    let forbidden = auth_headers(gateway);
    for name in route.matches.headers.keys().filter(|name| forbidden.contains(name.as_str())) {
        let message =
            format!("a route can't be chosen by `{0}`: authentication sets or removes it", name.as_str());
        let problem = Problem::key(format!("{pointer}/match/headers/{}", name.as_str()), message);
        problems.push(problem.help("choose the route by path, host or another header"));
    }
    for (kind, values) in [("headers", texts(&route.matches.headers)), ("query", texts(&route.matches.query))]
    {
        for (name, text) in values {
            let pointer = join(&format!("{pointer}/match/{kind}"), &name);
            if name.is_empty() || name.len() > 1024 {
                problems.push(Problem::key(pointer, "a name has 1 to 1024 bytes"));
            } else if text.is_some_and(str::is_empty) {
                let problem = Problem::value(pointer, "an empty text matches everything");
                problems.push(problem.help("write `present: true`"));
            }
        }
    }
    let actions = [!route.to.is_empty(), route.redirect.is_some(), route.respond.is_some()];
    if actions.iter().filter(|is_set| **is_set).count() != 1 {
        let problem = Problem::value(pointer, "a route needs exactly one of `to`, `redirect` and `respond`");
        problems.push(problem.help("for example `to: api`"));
    }
    for (index, destination) in route.to.iter().enumerate() {
        // The short form has no list, so the problem stands at `to` itself.
        let pointer = format!("{pointer}/to/{index}/cluster");
        known("cluster", &gateway.clusters, &destination.cluster, pointer, problems);
    }
    let total: u64 = route.to.iter().map(|destination| u64::from(destination.weight)).sum();
    if !route.to.is_empty() && !(1..=u64::from(u32::MAX)).contains(&total) {
        let message = format!("the weights add up to {total}, but must to between 1 and {}", u32::MAX);
        problems.push(Problem::value(format!("{pointer}/to"), message));
    }
    if route.to.is_empty() {
        for (field, is_set) in [
            ("rewrite", route.rewrite.is_some()),
            ("timeout", route.timeout.is_some()),
            ("retry", route.retry.is_some()),
        ] {
            if is_set {
                let message = format!("`{field}` does nothing here: it goes with `to`");
                problems.push(Problem::key(format!("{pointer}/{field}"), message));
            }
        }
    }
    if let Some(rewrite) = &route.rewrite {
        self::rewrite(&format!("{pointer}/rewrite"), rewrite, &route.matches.path, problems);
    }
    if let Some(redirect) = &route.redirect {
        self::redirect(&format!("{pointer}/redirect"), redirect, &route.matches.path, problems);
    }
    if let Some(respond) = &route.respond {
        let pointer = format!("{pointer}/respond");
        within(&format!("{pointer}/status"), "status", respond.status, 200..=599, problems);
        if respond.content_type.as_ref().is_some_and(|value| !is_format(value.as_str())) {
            problems.push(percent(format!("{pointer}/content_type")));
        }
        let size = respond.body.as_ref().map_or(0, String::len);
        if size > MAX_BODY {
            let message = format!("the body has {size} bytes, more than Envoy's {MAX_BODY}");
            problems.push(Problem::value(format!("{pointer}/body"), message));
        }
    }
    if let Some(retry) = &route.retry {
        self::retry(&format!("{pointer}/retry"), retry, problems);
    }
    headers(&format!("{pointer}/headers"), &route.headers, problems);
    policies(gateway, &format!("{pointer}/policies"), &route.policies, problems);
}

fn rewrite(pointer: &str, rewrite: &Rewrite, path: &PathMatch, problems: &mut Vec<Problem>) {
    if rewrite.prefix.is_some() && matches!(path, PathMatch::Regex(_)) {
        let problem =
            Problem::key(format!("{pointer}/prefix"), "`prefix` can't rewrite a path matched by regex");
        problems.push(problem.help("use `regex: {pattern: …, substitution: …}`"));
    }
    if *rewrite == Rewrite::default() {
        problems.push(
            Problem::value(pointer, "the rewrite changes nothing").help("set `prefix`, `regex` or `host`"),
        );
    }
    if rewrite.host.as_ref().is_some_and(|host| !is_authority(host.as_str())) {
        problems.push(Problem::value(format!("{pointer}/host"), "this is no host name"));
    }
    if let Some(regex) = &rewrite.regex {
        let groups = regex.pattern.groups();
        let substitution = regex.substitution.as_str();
        let mut escapes = substitution.split('\\').skip(1).map(|rest| rest.chars().next());
        let fits =
            |c: Option<char>| c.and_then(|c| c.to_digit(10)).is_some_and(|group| group as usize <= groups);
        if !escapes.all(fits) {
            let message = format!("after a backslash comes a group's number: 0 to {groups} here");
            problems.push(Problem::value(format!("{pointer}/regex/substitution"), message));
        }
    }
    if rewrite.prefix.is_some() && rewrite.regex.is_some() {
        problems.push(Problem::key(
            format!("{pointer}/regex"),
            "a route rewrites by `prefix` or by `regex`, not both",
        ));
    }
}

/// A host name or address, with or without a port.
fn is_authority(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(c))
}

fn redirect(pointer: &str, redirect: &Redirect, path: &PathMatch, problems: &mut Vec<Problem>) {
    if *redirect == (Redirect { status: redirect.status, ..Redirect::default() }) {
        let problem = Problem::value(pointer, "the redirect changes nothing, so it would never end");
        problems.push(problem.help("set `https`, `host`, `port`, `path` or `prefix`"));
    }
    if redirect.path.is_some() && redirect.prefix.is_some() {
        problems
            .push(Problem::key(format!("{pointer}/prefix"), "a redirect has `path` or `prefix`, not both"));
    }
    if redirect.prefix.is_some() && !matches!(path, PathMatch::Prefix(_)) {
        let problem = Problem::key(format!("{pointer}/prefix"), "`prefix` needs a prefix match");
        problems.push(problem.help("match `path: {prefix: …}`, or use `path`"));
    }
    if redirect.host.as_ref().is_some_and(|host| !is_authority(host.as_str())) {
        problems.push(Problem::value(format!("{pointer}/host"), "this is no host name"));
    }
    if redirect.port == Some(0) {
        problems.push(Problem::value(format!("{pointer}/port"), "port 0 can't be used here"));
    }
    if let Some(status) = redirect.status
        && ![301, 302, 303, 307, 308].contains(&status)
    {
        let message = format!("{status} is no redirect: use 301, 302, 303, 307 or 308");
        problems.push(Problem::value(format!("{pointer}/status"), message));
    }
}

fn retry(pointer: &str, retry: &Retry, problems: &mut Vec<Problem>) {
    if retry.on.is_empty() {
        let problem = Problem::value(format!("{pointer}/on"), "nothing would be tried again");
        problems.push(problem.help("for example `on: [5xx, reset]`"));
    }
    within(&format!("{pointer}/attempts"), "attempts", retry.attempts, 1..=10, problems);
}

/// Header changes of a route or virtual host.
pub(super) fn headers(pointer: &str, changes: &HeaderChanges, problems: &mut Vec<Problem>) {
    for (way, edits) in [("request", &changes.request), ("response", &changes.response)] {
        let HeaderEdits { set, add, remove: _ } = edits;
        for (kind, values) in [("set", set), ("add", add)] {
            for (name, value) in values {
                if !is_format(value.as_str()) {
                    problems.push(percent(format!("{pointer}/{way}/{kind}/{}", name.as_str())));
                }
            }
        }
    }
}

/// The texts that must not be empty, by name.
fn texts<'a, K: std::fmt::Display>(values: &'a BTreeMap<K, ValueMatch>) -> Vec<(String, Option<&'a str>)> {
    let text = |value: &'a ValueMatch| match value {
        ValueMatch::Prefix(text) | ValueMatch::Suffix(text) | ValueMatch::Contains(text) => {
            Some(text.as_str())
        }
        ValueMatch::Exact(_) | ValueMatch::Regex(_) | ValueMatch::Present(_) => None,
    };
    values.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn percent(pointer: String) -> Problem {
    let problem = Problem::value(pointer, "a percent sign starts an Envoy command, such as %REQ(x-id)%");
    problem.help("write %% for a percent sign, and only commands that Envoy knows")
}

/// Commands without an argument that header values may hold.
const COMMANDS: [&str; 16] = [
    "BYTES_RECEIVED",
    "CONNECTION_ID",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "HOSTNAME",
    "PROTOCOL",
    "REQUESTED_SERVER_NAME",
    "RESPONSE_CODE",
    "RESPONSE_FLAGS",
    "ROUTE_NAME",
    "START_TIME",
    "STREAM_ID",
    "UPSTREAM_CLUSTER",
];

/// Whether every `%` is doubled or belongs to a command that Envoy knows: one of [`COMMANDS`], or `%REQ(name)%` and
/// `%RESP(name)%`, whose values may be cut (`:9`).
fn is_format(text: &str) -> bool {
    let mut parts = text.split('%');
    // Between two signs stands a command; nothing between them is a percent sign.
    let mut next_is_command = false;
    let mut open = false;
    parts.next();
    for part in parts {
        next_is_command = !next_is_command;
        open = next_is_command;
        if next_is_command && !part.is_empty() && !is_command(part) {
            return false;
        }
    }
    !open
}

fn is_command(text: &str) -> bool {
    let Some((name, rest)) = text.split_once('(') else { return COMMANDS.contains(&text) };
    let Some((argument, length)) = rest.split_once(')') else { return false };
    let token = |c: char| c.is_ascii_alphanumeric() || "-_.:?".contains(c);
    let is_cut = length.strip_prefix(':').is_some_and(|digits| {
        !digits.is_empty() && digits.len() < 6 && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    matches!(name, "REQ" | "RESP")
        && !argument.is_empty()
        && argument.chars().all(token)
        && (length.is_empty() || is_cut)
}

#[cfg(test)]
mod tests {
    use super::is_format;

    #[test]
    fn percent_signs_are_doubled_or_commands_of_envoy() {
        for text in
            ["", "plain", "100%%", "%REQ(x-id)%", "a %START_TIME% b", "%REQ(x-id):8%%PROTOCOL%", "%%%%"]
        {
            assert!(is_format(text), "{text}");
        }
        for text in [
            "100%",
            "%",
            "% %",
            "%REQ(x",
            "%lower%",
            "%REQ(x)",
            "%%%",
            "%FOO%",
            "%REQ%",
            "%REQ()%",
            "%PROTOCOL(x)%",
            "%REQ(x):%",
        ] {
            assert!(!is_format(text), "{text}");
        }
    }
}
