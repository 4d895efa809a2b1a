//! What can be said of a gateway before it goes into etcd, on a machine that serves none: its files may not be here.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::ConfigError;
use crate::gateway::{self, Located, Problem, ReferencedFiles, Report};
use crate::source::file::{self, FileSource};
use crate::source::referenced;
use crate::translate::{self, KeySets};

/// A gateway that is right, as far as its texts go.
#[derive(Debug)]
pub struct Checked {
    /// As every server will call it.
    pub version: String,
    /// Texts by the names of their files.
    pub documents: BTreeMap<String, String>,
    /// What people should look at.
    pub warnings: Vec<Located>,
}

/// Reads and checks a gateway, but for the files that it names: what is wrong with those is a warning. Blocks.
///
/// # Errors
/// When it can't be read, or is wrong.
pub fn check_texts(source: &FileSource) -> Result<Checked, ConfigError> {
    let texts = source.read()?;
    let version = file::version(&texts);
    let name = |file: &gateway::SourceFile| {
        file.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    let documents = texts.iter().map(|file| (name(file), file.text.clone())).collect();
    let wrong = |report| ConfigError::Wrong { version: version.clone(), report };
    let loaded = gateway::load(texts).map_err(wrong)?;
    let locate = |problems: Vec<Problem>| -> Vec<Located> {
        problems.into_iter().filter_map(|problem| loaded.source_map.locate(problem)).collect()
    };
    let (nothing, now) = (ReferencedFiles::default(), SystemTime::now());
    let (files, warnings) = match referenced::read(&loaded.gateway, source.base_dir(), &nothing, now) {
        Ok(read) => (read.files, read.warnings),
        Err(problems) => (nothing, problems.into_iter().map(Problem::warning).collect()),
    };
    let problems = translate::check(&loaded.gateway, &KeySets { files, ..KeySets::default() });
    if !problems.is_empty() {
        return Err(wrong(Report { problems: locate(problems) }));
    }
    Ok(Checked { version, documents, warnings: locate(warnings) })
}
