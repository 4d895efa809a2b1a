//! What a process prints, read back from its file: as text, as JSON entries, or line by line as it comes.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A log file that is being written.
#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// The log at this path; it may not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it. Bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        self.text_from(0)
    }

    /// The last lines.
    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Where the log ends now: a mark for [`Self::entries_from`].
    pub fn end(&self) -> u64 {
        self.path.metadata().map_or(0, |metadata| metadata.len())
    }

    /// The JSON entries behind a mark; other lines are passed over.
    pub fn entries_from(&self, mark: u64) -> Vec<Entry> {
        self.text_from(mark).lines().filter_map(Entry::parse).collect()
    }

    /// Reads lines as they come, from now on.
    pub fn follow(&self) -> Follower {
        Follower { path: self.path.clone(), position: self.end() }
    }

    fn text_from(&self, position: u64) -> String {
        String::from_utf8_lossy(&read_from(&self.path, position)).into_owned()
    }
}

/// One JSON line: `{"timestamp": …, "level": …, "message": …, …fields}`.
#[derive(Debug, Clone)]
pub struct Entry(Value);

impl Entry {
    /// `None` where the line is no JSON object.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().filter(Value::is_object).map(Self)
    }

    /// The message; empty where there is none.
    pub fn message(&self) -> &str {
        self.0["message"].as_str().unwrap_or_default()
    }

    /// Whether the message is this, alone or before a `;` and details.
    pub fn says(&self, what: &str) -> bool {
        let rest = self.message().strip_prefix(what);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(';'))
    }

    /// The level in upper case; empty where there is none.
    pub fn level(&self) -> &str {
        self.0["level"].as_str().unwrap_or_default()
    }

    /// A field as text, without quotes; `None` where it is absent or null.
    pub fn field(&self, name: &str) -> Option<String> {
        match &self.0[name] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// Reads a log while it is written, whole lines only.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    position: u64,
}

impl Follower {
    /// The lines that were completed since the last call.
    pub fn new_lines(&mut self) -> Vec<String> {
        let bytes = read_from(&self.path, self.position);
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.position += complete as u64;
        String::from_utf8_lossy(&bytes[..complete]).lines().map(str::to_owned).collect()
    }
}

/// Empty where the file cannot be read: a log that is not there yet says nothing yet.
fn read_from(path: &Path, position: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(position)).is_ok()
    {
        let _ = file.read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write};

    use super::*;
    use crate::work_dir;

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_line_is_followed_only_when_it_is_whole() {
        let log = Log::new(work_dir::new("log").unwrap().join("a.log"));
        let mut follower = log.follow();
        assert!(follower.new_lines().is_empty());
        append(log.path(), "one\ntw");
        assert_eq!(follower.new_lines(), ["one"]);
        append(log.path(), "o\n");
        assert_eq!(follower.new_lines(), ["two"]);
        assert!(follower.new_lines().is_empty());
    }

    #[test]
    fn entries_behind_a_mark_are_found() {
        let log = Log::new(work_dir::new("log").unwrap().join("b.log"));
        append(log.path(), "{\"message\":\"old\"}\n");
        let mark = log.end();
        append(log.path(), "no json\n{\"message\":\"new\",\"level\":\"WARN\",\"line\":7}\n");
        let entries = log.entries_from(mark);
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].message(), entries[0].level()), ("new", "WARN"));
        assert_eq!(entries[0].field("line").as_deref(), Some("7"));
        assert_eq!(entries[0].field("column"), None);
        assert!(entries[0].says("new") && !entries[0].says("ne"));
    }
}
