//! The name of a route that has none: made from what it matches, so that it moves with the route when others
//! are added before it.

use std::fmt::Write;

use super::model::{Match, PathMatch, Route, ValueMatch};

/// The route's name, or one made from its match, such as `GET /v1/*` or `= /healthz`.
pub fn route_name(route: &Route) -> String {
    match &route.name {
        Some(name) => name.as_str().to_owned(),
        None => describe(&route.matches),
    }
}

fn describe(matches: &Match) -> String {
    let mut name = String::new();
    let methods: Vec<&str> = matches.methods.iter().map(|method| method.as_str()).collect();
    if !methods.is_empty() {
        name = methods.join(",") + " ";
    }
    // Writing to a string can't fail.
    let _ = match &matches.path {
        PathMatch::Exact(path) => write!(name, "= {}", path.as_str()),
        PathMatch::Prefix(path) => write!(name, "{}*", path.as_str()),
        PathMatch::Regex(regex) => write!(name, "~ {}", regex.as_str()),
    };
    for (header, value) in &matches.headers {
        let _ = write!(name, " {}:{}", header.as_str(), value_text(value));
    }
    for (parameter, value) in &matches.query {
        let _ = write!(name, " ?{parameter}{}", value_text(value));
    }
    name
}

fn value_text(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("={text}"),
        ValueMatch::Prefix(text) => format!("^={text}"),
        ValueMatch::Suffix(text) => format!("$={text}"),
        ValueMatch::Contains(text) => format!("*={text}"),
        ValueMatch::Regex(regex) => format!("~{}", regex.as_str()),
        ValueMatch::Present(true) => String::from("?"),
        ValueMatch::Present(false) => String::from("!"),
    }
}
