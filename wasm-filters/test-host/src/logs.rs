//! What filters logged, kept for assertions. Nothing is printed: a failed test prints what it needs.

use std::fmt;

use crate::abi::LogLevel;

/// Which VM of a plugin. Envoy starts a canary on the main thread, and keeps it only if it configures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VmName {
    /// Started first and thrown away, to see whether the configuration is accepted.
    Canary,
    /// The main thread's.
    Main,
    /// A worker's, counted from 0.
    Worker(usize),
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canary => f.write_str("canary"),
            Self::Main => f.write_str("main"),
            Self::Worker(number) => write!(f, "worker {number}"),
        }
    }
}

/// One line that a module logged, or wrote to its standard output or error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How severe.
    pub level: LogLevel,
    /// Who logged it.
    pub vm: VmName,
    /// What; bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {:?}: {}", self.vm, self.level, self.text)
    }
}

/// Lines in the order they were logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logs(pub Vec<LogLine>);

impl Logs {
    /// Whether a line holds `text`.
    pub fn contains(&self, text: &str) -> bool {
        self.0.iter().any(|line| line.text.contains(text))
    }

    /// How many lines hold `text`.
    pub fn count(&self, text: &str) -> usize {
        self.0.iter().filter(|line| line.text.contains(text)).count()
    }

    /// Lines at `level` or worse.
    pub fn at_least(&self, level: LogLevel) -> Self {
        Self(self.0.iter().filter(|line| line.level >= level).cloned().collect())
    }

    /// Lines of one VM.
    pub fn of(&self, vm: VmName) -> Self {
        Self(self.0.iter().filter(|line| line.vm == vm).cloned().collect())
    }

    /// The texts alone.
    pub fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|line| line.text.as_str()).collect()
    }
}

impl fmt::Display for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
