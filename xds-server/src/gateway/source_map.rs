//! The files a gateway came from, and where in them each value stands.

use std::path::PathBuf;

use super::position::Positions;
use super::report::{Located, Problem};

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
    files: Vec<(SourceFile, Positions)>,
}

impl SourceMap {
    pub(super) fn push(&mut self, file: SourceFile, positions: Positions) {
        self.files.push((file, positions));
    }

    /// Finds the value in the file that wrote it: the one that knows most of its pointer. `None` where there
    /// is no file at all.
    pub fn locate(&self, problem: Problem) -> Option<Located> {
        let depth = |positions: &Positions| {
            let ends = problem.pointer.match_indices('/').map(|(end, _)| end).chain([problem.pointer.len()]);
            ends.filter(|end| positions.contains(&problem.pointer[..*end])).count()
        };
        // Of equals the first, which max_by_key would not give.
        let index = (0..self.files.len()).rev().max_by_key(|index| depth(&self.files[*index].1))?;
        Some(self.locate_in(index, problem))
    }

    pub(super) fn locate_in(&self, index: usize, problem: Problem) -> Located {
        let (file, positions) = &self.files[index];
        let position = match problem.at_key {
            true => positions.key(&problem.pointer),
            false => positions.value(&problem.pointer),
        };
        Located::new(problem, file, positions, position)
    }
}
