//! Where the database is, checked before anything is opened or bound.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

/// A parsed `sqlite:` URL.
#[derive(Debug, Clone)]
pub struct Location {
    options: SqliteConnectOptions,
    /// `None` in memory.
    file: Option<PathBuf>,
    create: bool,
}

/// The text is not a URL of a SQLite database.
#[derive(Debug, thiserror::Error)]
#[error("database must be `sqlite::memory:` or like `sqlite://path/to/file?mode=rwc`: {0}")]
pub struct NotALocation(String);

impl Location {
    pub(super) fn options(&self) -> SqliteConnectOptions {
        self.options.clone()
    }

    pub(super) fn in_memory(&self) -> bool {
        self.file.is_none()
    }

    /// Creates folder and file: SQLite would make the file readable to everyone, and it holds private keys.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.create) else { return Ok(()) };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(file)?;
        Ok(())
    }
}

impl FromStr for Location {
    type Err = NotALocation;

    fn from_str(url: &str) -> Result<Self, NotALocation> {
        if !url.starts_with("sqlite:") {
            return Err(NotALocation("it does not start with `sqlite:`".to_owned()));
        }
        let options = SqliteConnectOptions::from_str(url).map_err(|error| NotALocation(error.to_string()))?;
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let file = (!in_memory).then(|| options.get_filename().to_path_buf());
        if file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            return Err(NotALocation("it names no file".to_owned()));
        }
        let options = options.foreign_keys(true).busy_timeout(Duration::from_secs(5));
        // With a write-ahead log readers never wait for the writer. NORMAL may lose the last commits when the
        // machine loses power, never when the process dies, and cannot corrupt.
        let options = if in_memory {
            options
        } else {
            options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Normal)
        };
        Ok(Self { options, file, create: url.contains("mode=rwc") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sqlite_urls_are_locations() {
        for (url, in_memory) in [
            ("sqlite::memory:", Some(true)),
            ("sqlite://file?mode=memory", Some(true)),
            ("sqlite://a/b.sqlite?mode=rwc", Some(false)),
            ("sqlite:///a/b.sqlite", Some(false)),
            ("sqlite://a?mode=what", None),
            ("mysql://localhost/a", None),
            ("sqlite://", None),
            ("a.sqlite", None),
            ("", None),
        ] {
            assert_eq!(url.parse::<Location>().ok().map(|at| at.in_memory()), in_memory, "{url}");
        }
    }
}
