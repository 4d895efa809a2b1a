//! What is wrong with the YAML, shown where it stands: file, line, column, the line itself and a caret.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::position::{Position, Positions};
use super::source_map::SourceFile;

/// One thing wrong, before its place in a file is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON Pointer to the value, or to the key where `at_key`.
    pub pointer: String,
    /// Whether the key is to be underlined instead of the value.
    pub at_key: bool,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// Whether the line may hold a secret, and is not to be shown.
    pub secret: bool,
    /// Whether the gateway is served all the same.
    pub warning: bool,
}

impl Problem {
    /// Something wrong with the value at `pointer`.
    pub fn value(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let (pointer, message) = (pointer.into(), message.into());
        Self { pointer, at_key: false, message, help: None, secret: false, warning: false }
    }

    /// Something wrong with the key at `pointer`.
    pub fn key(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at_key: true, ..Self::value(pointer, message) }
    }

    /// Says what would be right.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Keeps the line out of reports.
    pub fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Something that people should know, and that keeps nothing from being served.
    pub fn warning(self) -> Self {
        Self { warning: true, ..self }
    }

    /// Suggests the known name nearest to `name`, or lists them where none is near.
    pub fn suggest<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let near = known
            .iter()
            .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
            .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(name.len()) / 4)
            .min();
        match near {
            Some((_, candidate)) => self.help(format!("did you mean `{candidate}`?")),
            None if known.is_empty() => self,
            None => self.help(format!("known here: {}", known.join(", "))),
        }
    }
}

/// A problem with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Located {
    /// File it is in.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    #[serde(skip)]
    warning: bool,
    #[serde(skip)]
    width: usize,
    #[serde(skip)]
    text: Option<String>,
}

impl Located {
    /// Puts `problem` at `position` of `file`.
    /// Lines that may hold a secret are not shown.
    pub fn new(problem: Problem, file: &SourceFile, positions: &Positions, position: Position) -> Self {
        let line = file.text.lines().nth(position.line.saturating_sub(1)).unwrap_or_default();
        Self {
            file: file.path.clone(),
            line: position.line,
            column: position.column,
            message: problem.message,
            help: problem.help,
            warning: problem.warning,
            width: position.width,
            // Text that could not be read to its end has no positions from there on.
            text: (!problem.secret
                && !positions.is_secret(position.line)
                && !line.contains("sha256")
                && !line.contains("jwks")
                && !may_be_key(line))
            .then(|| line.to_owned()),
        }
    }
}

/// Whether the line looks like part of a PEM file, pasted where its path should be.
fn may_be_key(line: &str) -> bool {
    const BASE64_LINE: usize = 60;
    let other = |c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c);
    line.contains("-----BEGIN") || line.split(other).any(|word| word.len() >= BASE64_LINE)
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gutter = self.line.to_string().len();
        let severity = if self.warning { "warning" } else { "error" };
        writeln!(f, "{severity}: {}", self.message)?;
        writeln!(f, "{:gutter$}--> {}:{}:{}", "", self.file.display(), self.line, self.column)?;
        write!(f, "{:gutter$} |", "")?;
        if let Some(text) = &self.text {
            writeln!(f, "\n{} | {text}", self.line)?;
            // Tabs are kept, so that the caret stands under its column whatever their width.
            let before = text.chars().take(self.column.saturating_sub(1));
            let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "{:gutter$} | {indent}{}", "", "^".repeat(self.width.clamp(1, 120)))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// Everything wrong with one configuration, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Report {
    /// At least one.
    pub problems: Vec<Located>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_value() {
        let problem = Problem::key("/x", "unknown field `timout`").suggest("timout", ["timeout", "retry"]);
        let position = Position { line: 2, column: 3, width: 6 };
        let file = SourceFile { path: "gateway.yaml".into(), text: "a:\n  timout: 5s\n".into() };
        let located = Located::new(problem, &file, &Positions::default(), position);
        let expected = "\
error: unknown field `timout`
 --> gateway.yaml:2:3
  |
2 |   timout: 5s
  |   ^^^^^^
  = help: did you mean `timeout`?";
        assert_eq!(located.to_string(), expected);
    }

    #[test]
    fn far_names_are_listed_instead_of_guessed() {
        let problem = Problem::value("", "x").suggest("zzzzzz", ["api", "web"]);
        assert_eq!(problem.help.as_deref(), Some("known here: api, web"));
    }
}
