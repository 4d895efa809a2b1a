//! The files a gateway came from, and where in them each value stands.
//!
//! Positions are looked for once somebody asks: nobody does while everything is right.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::position::Positions;
use super::report::{Located, Problem};

/// Whether `name` stands in `message` as a word of its own: `api` is not in `api-canary`.
pub fn mentions(message: &str, name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '/' | '.');
    !name.is_empty()
        && message.match_indices(name).any(|(start, _)| {
            let (before, after) = (&message[..start], &message[start + name.len()..]);
            // A full stop ends a sentence, or goes on with the name.
            let rest = after.strip_prefix('.').filter(|rest| !rest.starts_with(inside)).unwrap_or(after);
            !before.ends_with(inside) && !rest.starts_with(inside)
        })
}

/// One file of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path, as reports show it.
    pub path: PathBuf,
    /// Whole text.
    pub text: String,
}

/// All files of a configuration, with the positions of their values.
#[derive(Debug, Default)]
pub struct SourceMap {
    files: Vec<Mapped>,
}

#[derive(Debug)]
struct Mapped {
    file: SourceFile,
    positions: OnceLock<Positions>,
}

impl Mapped {
    fn positions(&self) -> &Positions {
        self.positions.get_or_init(|| Positions::of(&self.file.text).0)
    }
}

impl SourceMap {
    pub(super) fn push(&mut self, file: SourceFile) {
        self.files.push(Mapped { file, positions: OnceLock::new() });
    }

    /// Finds the value in the file that wrote it: the one that knows most of its pointer. `None` where there
    /// is no file at all.
    pub fn locate(&self, problem: Problem) -> Option<Located> {
        let depth = |positions: &Positions| {
            let ends = problem.pointer.match_indices('/').map(|(end, _)| end).chain([problem.pointer.len()]);
            ends.filter(|end| positions.contains(&problem.pointer[..*end])).count()
        };
        // Of equals the first, which max_by_key would not give.
        let index = (0..self.files.len()).rev().max_by_key(|index| depth(self.files[*index].positions()))?;
        Some(self.locate_in(index, problem))
    }

    /// Finds what somebody else's words about the value at `pointer` are about: of the values inside it, the longest
    /// that they quote; else the value itself. The words are the message.
    pub fn locate_words(&self, pointer: &str, words: &str) -> Option<Located> {
        let quoted = |mapped: &Mapped| {
            let inside = mapped.positions().inside(pointer).filter_map(|(pointer, position)| {
                let line = mapped.file.text.lines().nth(position.line.checked_sub(1)?)?;
                let text: String = line.chars().skip(position.column - 1).take(position.width).collect();
                let text = text.trim().trim_matches(['"', '\'']);
                (text.len() > 1 && mentions(words, text)).then(|| (text.len(), pointer.to_owned()))
            });
            // Of equals the first in the order of pointers.
            inside.max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)))
        };
        let best = self.files.iter().filter_map(quoted).max_by_key(|(length, _)| *length);
        let (pointer, at_key) = match best {
            Some((_, pointer)) => (pointer, false),
            None => (pointer.to_owned(), true),
        };
        self.locate(Problem { at_key, ..Problem::value(pointer, words) })
    }

    pub(super) fn locate_in(&self, index: usize, problem: Problem) -> Located {
        let Mapped { file, .. } = &self.files[index];
        let positions = self.files[index].positions();
        let position = match problem.at_key {
            true => positions.key(&problem.pointer),
            false => positions.value(&problem.pointer),
        };
        Located::new(problem, file, positions, position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source_map(text: &str) -> SourceMap {
        let mut map = SourceMap::default();
        map.push(SourceFile { path: "g.yaml".into(), text: text.into() });
        map
    }

    #[test]
    fn words_are_placed_at_the_value_they_quote_and_else_at_its_key() {
        let map =
            source_map("listeners:\n  a: { address: 1.2.3.4:80, x: 80 }\n  b: { address: \"1.2.3.4:80\" }\n");
        let at = |pointer: &str, words: &str| {
            let place = map.locate_words(pointer, words).unwrap();
            (place.line, place.column, place.message)
        };
        let words = "listener b: cannot bind '1.2.3.4:80'";
        assert_eq!(at("/listeners/b", words), (3, 17, words.into()));
        assert_eq!(at("/listeners/a", words), (2, 17, words.into()));
        assert_eq!(at("/listeners/a", "no"), (2, 3, "no".into()));
    }

    #[test]
    fn names_are_words_of_their_own() {
        for (message, expected) in [
            ("api: x", true),
            ("'api'", true),
            ("of api.", true),
            ("api.v2", false),
            ("my-api", false),
            ("apis", false),
        ] {
            assert_eq!(mentions(message, "api"), expected, "{message}");
        }
        assert!(!mentions("x", ""));
    }
}
