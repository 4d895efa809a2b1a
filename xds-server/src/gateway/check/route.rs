//! Routes: one action each, fields that fit the action and the match, names that tell them apart.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_filter_config::{CONSUMER_HEADER, CREDENTIAL_ID_HEADER, CREDENTIAL_TYPE_HEADER};

use super::{known, policies, within};
use crate::gateway::model::{
    AuthProvider, Gateway, HeaderChanges, HeaderEdits, PathMatch, Redirect, Retry, Rewrite, Route,
    VirtualHost,
};
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
    for provider in gateway.policies.auth.values().flat_map(|policy| &policy.any_of) {
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
    if rewrite.prefix.is_some() && rewrite.regex.is_some() {
        problems.push(Problem::key(
            format!("{pointer}/regex"),
            "a route rewrites by `prefix` or by `regex`, not both",
        ));
    }
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
                    let pointer = format!("{pointer}/{way}/{kind}/{}", name.as_str());
                    let problem = Problem::value(
                        pointer,
                        "a percent sign starts an Envoy command, such as %REQ(x-id)%",
                    );
                    problems.push(problem.help("write %% for a percent sign"));
                }
            }
        }
    }
}

/// Whether every `%` is doubled or belongs to a `%COMMAND%`, `%COMMAND(argument)%`, `%COMMAND(argument):9%`.
fn is_format(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        rest = &rest[start + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            rest = after;
            continue;
        }
        let name = rest
            .find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_')
            .unwrap_or(rest.len());
        if name == 0 {
            return false;
        }
        rest = &rest[name..];
        if rest.starts_with('(') {
            let Some(end) = rest.find(')') else { return false };
            rest = &rest[end + 1..];
        }
        if let Some(length) = rest.strip_prefix(':') {
            rest = length.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        let Some(after) = rest.strip_prefix('%') else { return false };
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_format;

    #[test]
    fn percent_signs_are_doubled_or_commands() {
        for text in ["", "plain", "100%%", "%REQ(x-id)%", "a %START_TIME% b", "%REQ(x-id):8%%PROTOCOL%"] {
            assert!(is_format(text), "{text}");
        }
        for text in ["100%", "%", "% %", "%REQ(x", "%lower%", "%REQ(x)", "%%%"] {
            assert!(!is_format(text), "{text}");
        }
    }
}
