//! The gateway as operators describe it: YAML in, a checked [`Gateway`] out, or a [`Report`] that says where
//! it is wrong.
//!
//! ```text
//! text ─ serde_yaml ─► JSON value ─ serde ─► model ─ merge files ─► check ─► Gateway
//!   └─ position: pointer → line, column, once something is wrong ───► Report
//! ```
//!
//! Nothing here knows Envoy's types, reads files or waits.

use std::collections::BTreeMap;

mod check;
pub mod model;
pub mod pem;
pub mod position;
mod referenced;
pub mod report;
mod route_name;
pub mod scalar;
pub mod source_map;
mod value;

pub use model::Gateway;
use position::Positions;
pub use referenced::ReferencedFiles;
pub use report::{Located, Problem, Report};
pub use route_name::route_name;
pub use source_map::{SourceFile, SourceMap};

/// A checked gateway, and where each of its values stands.
#[derive(Debug)]
pub struct Loaded {
    /// What the YAML says.
    pub gateway: Gateway,
    /// For problems that show up later.
    pub source_map: SourceMap,
}

/// Parses, merges and checks `files`.
///
/// # Errors
/// Everything that is wrong, as far as it can be seen: syntax and types of every file, then what names and
/// values say of each other.
pub fn load(files: Vec<SourceFile>) -> Result<Loaded, Report> {
    let mut problems = Vec::new();
    let mut gateways = Vec::new();
    let mut source_map = SourceMap::default();
    for file in files {
        match parse(&file) {
            Ok(gateway) => gateways.push(gateway),
            Err(wrong) => problems.extend(wrong),
        }
        source_map.push(file);
    }
    if !problems.is_empty() {
        return Err(Report { problems });
    }

    let mut merged = Gateway::default();
    for (index, gateway) in gateways.into_iter().enumerate() {
        let doubles = merge(&mut merged, gateway);
        problems.extend(doubles.into_iter().map(|problem| source_map.locate_in(index, problem)));
    }
    problems.extend(check::check(&merged).into_iter().filter_map(|problem| source_map.locate(problem)));
    if problems.is_empty() { Ok(Loaded { gateway: merged, source_map }) } else { Err(Report { problems }) }
}

/// One file's text as the model, or what is wrong with it: the first thing, and every key that stands twice.
fn parse(file: &SourceFile) -> Result<Gateway, Vec<Located>> {
    let (parsed, is_doubled) = match value::read(&file.text) {
        Ok((value, is_doubled)) if value.is_null() => (Err(Wrong::Empty), is_doubled),
        Ok((value, is_doubled)) => {
            (serde_path_to_error::deserialize(value).map_err(Wrong::Model), is_doubled)
        }
        // It may be so before the place where the text breaks off.
        Err(error) => (Err(Wrong::Text(error)), true),
    };
    let wrong = match parsed {
        Ok(gateway) if !is_doubled => return Ok(gateway),
        parsed => parsed.err(),
    };
    let (positions, duplicates) = Positions::of(&file.text);
    let first = match wrong {
        Some(wrong) => Some(wrong.describe(&positions)),
        // Two parsers that differ in what a key is: nothing may pass for it.
        None if duplicates.is_empty() => {
            Some((Problem::value("", "a key stands twice"), positions.value("")))
        }
        None => None,
    };
    let doubled = duplicates.into_iter().map(|duplicate| {
        let message = format!("this key stands twice; the first is in line {}", duplicate.first_line);
        (Problem::key(duplicate.pointer, message), duplicate.position)
    });
    let located = |(problem, position)| Located::new(problem, file, &positions, position);
    Err(first.into_iter().chain(doubled).map(located).collect())
}

/// Why a text is no gateway.
enum Wrong {
    Text(serde_yaml::Error),
    Empty,
    Model(serde_path_to_error::Error<serde_json::Error>),
}

impl Wrong {
    fn describe(self, positions: &Positions) -> (Problem, position::Position) {
        let at = |line, column| position::Position { line, column, width: 1 };
        match self {
            Wrong::Text(error) => {
                let place = error.location().map_or(at(1, 1), |place| at(place.line(), place.column()));
                let message = error.to_string();
                // The place is shown beside the message; serde_yaml repeats it inside.
                let message = message.split(" at line ").next().unwrap_or_default().to_owned();
                (Problem::value("", message), place)
            }
            Wrong::Empty => {
                let problem = Problem::value("", "the file is empty").help("start with `version: v1`");
                (problem, at(1, 1))
            }
            Wrong::Model(error) => {
                let mut pointer = String::new();
                for segment in error.path() {
                    use serde_path_to_error::Segment::{Enum, Map, Seq, Unknown};
                    match segment {
                        Seq { index } => pointer = format!("{pointer}/{index}"),
                        Map { key } => pointer = position::join(&pointer, key),
                        Enum { variant } => pointer = position::join(&pointer, variant),
                        Unknown => {}
                    }
                }
                describe(&error.into_inner().to_string(), pointer, positions)
            }
        }
    }
}

/// serde's words, with the place and a suggestion. serde gives unknown names only inside its message.
fn describe(message: &str, pointer: String, positions: &Positions) -> (Problem, position::Position) {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = ["unknown field `", "unknown variant `"].iter().any(|start| message.starts_with(start));
    if unknown && let Some(name) = quoted.next() {
        // What is left are the names serde would have taken.
        let what = message.split(',').next().unwrap_or(message);
        let child = position::join(&pointer, name);
        let as_key = [&child, &pointer]
            .into_iter()
            .find(|pointer| positions.contains(pointer) && pointer.ends_with(&position::join("", name)));
        let (problem, position) = match as_key {
            Some(key) => (Problem::key(key.clone(), what), positions.key(key)),
            None => (Problem::value(pointer.clone(), what), positions.value(&pointer)),
        };
        return (problem.suggest(name, quoted), position);
    }
    let position = positions.value(&pointer);
    (Problem::value(pointer, message), position)
}

/// Moves a file's entries into `merged`; what stands in both is a problem.
fn merge(merged: &mut Gateway, file: Gateway) -> Vec<Problem> {
    fn section<V>(
        pointer: &str,
        into: &mut BTreeMap<scalar::Name, V>,
        from: BTreeMap<scalar::Name, V>,
        problems: &mut Vec<Problem>,
    ) {
        for (name, value) in from {
            if into.contains_key(&name) {
                let pointer = position::join(pointer, name.as_str());
                problems.push(Problem::key(pointer, format!("`{name}` stands in another file too")));
            }
            into.insert(name, value);
        }
    }
    let mut problems = Vec::new();
    section("/proxies", &mut merged.proxies, file.proxies, &mut problems);
    section("/listeners", &mut merged.listeners, file.listeners, &mut problems);
    section("/clusters", &mut merged.clusters, file.clusters, &mut problems);
    section("/certificates", &mut merged.certificates, file.certificates, &mut problems);
    section("/trusted_cas", &mut merged.trusted_cas, file.trusted_cas, &mut problems);
    section("/policies/auth", &mut merged.policies.auth, file.policies.auth, &mut problems);
    section("/policies/rate_limit", &mut merged.policies.rate_limit, file.policies.rate_limit, &mut problems);
    problems
}

#[cfg(test)]
mod tests;
