//! From texts to desired state: reads, checks, and hands on what is right; reports what is wrong and keeps
//! what was right before.

mod look;
mod pushed;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use tokio::sync::watch;

use crate::gateway::{self, Located, Problem, ReferencedFiles, Report, SourceFile};
use crate::grouping::Groups;
use crate::quota::{self, Limits};
use crate::rollout::{Desired, Rollout};
use crate::source::file::{self, FileSource, ReadError};
use crate::source::key_url::KeyFetcher;
use crate::source::revocation_list::RevocationFetcher;
use crate::source::watch::Watch;
use crate::source::{Moment, Source, referenced};
use crate::status::{lock, unix_seconds};
use crate::telemetry::Metrics;
use crate::translate::{self, KeySets};
pub use look::{First, first};
use look::{Looked, look};
pub use pushed::{Checked, check_texts};

/// Why a configuration can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is wrong.
    #[error("{report}")]
    Wrong {
        /// Version of the texts.
        version: String,
        /// What is wrong with them.
        report: Report,
    },
}

/// Reads and checks a configuration. Blocks. `before` stands in for files that went bad since.
///
/// # Errors
/// When it can't be read, or is wrong.
pub fn load(source: &FileSource, before: &ReferencedFiles) -> Result<Desired, ConfigError> {
    judge(source.read(), source.base_dir(), before)
}

/// What was read is right, or why not. Blocks.
fn judge(
    texts: Result<Vec<SourceFile>, ReadError>,
    base_dir: &Path,
    before: &ReferencedFiles,
) -> Result<Desired, ConfigError> {
    let (texts, read_at) = (texts?, Instant::now());
    let version = file::version(&texts);
    check(texts, version.clone(), base_dir, before, read_at)
        .map_err(|report| ConfigError::Wrong { version, report })
}

fn check(
    files: Vec<SourceFile>,
    version: String,
    base_dir: &Path,
    before: &ReferencedFiles,
    read_at: Instant,
) -> Result<Desired, Report> {
    let loaded = gateway::load(files)?;
    let locate = |problems: Vec<Problem>| -> Vec<Located> {
        problems.into_iter().filter_map(|problem| loaded.source_map.locate(problem)).collect()
    };
    let read = referenced::read(&loaded.gateway, base_dir, before, SystemTime::now())
        .map_err(|problems| Report { problems: locate(problems) })?;
    let warnings = locate(read.warnings);
    // Keys of URLs come later, and are not the YAML's fault.
    let keys = KeySets { files: read.files, ..KeySets::default() };
    let problems = translate::check(&loaded.gateway, &keys);
    if !problems.is_empty() {
        return Err(Report { problems: locate(problems) });
    }
    Ok(Desired {
        version,
        gateway: loaded.gateway,
        source_map: Arc::new(loaded.source_map),
        files: keys.files,
        warnings,
        read_at,
    })
}

/// What is served, and what is wrong with what is there; for the status page.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ConfigStatus {
    /// File or folder, or where in etcd.
    pub source: String,
    /// Version that is served.
    pub version: String,
    /// Revision of etcd that it is of. `null` where it is of files.
    pub revision: Option<i64>,
    /// Groups of proxies that it names.
    pub groups: Vec<String>,
    /// When it was read, in seconds since 1970.
    pub loaded_at: u64,
    /// Why what is on disk, or in etcd, is not served. `null` when it is.
    pub error: Option<ConfigProblem>,
    /// What people should look at, though everything is served: files that went bad, certificates out of date.
    pub warnings: Vec<Located>,
}

/// What is wrong with what is on disk, or in etcd.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConfigProblem {
    /// Version of what is wrong. `null` when the files can't be read at all.
    pub version: Option<String>,
    /// For people: all problems, with lines and carets.
    pub text: String,
    /// For programs: where and what. Empty when the files can't be read at all.
    pub problems: Vec<Located>,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// What a configuration is followed with, and who is told of it.
#[expect(missing_docs, reason = "the types are described where they are")]
pub struct Parts {
    pub watch: Watch,
    pub fetcher: KeyFetcher,
    pub revoked: RevocationFetcher,
    pub rollout: Rollout,
    pub metrics: Arc<Metrics>,
    pub proxy_groups: Groups,
    pub limits: watch::Sender<Arc<Limits>>,
}

/// Follows a configuration while it is edited.
pub struct Follow {
    source: Source,
    watch: Watch,
    rollout: Rollout,
    fetcher: KeyFetcher,
    revoked: RevocationFetcher,
    metrics: Arc<Metrics>,
    proxy_groups: Groups,
    limits: watch::Sender<Arc<Limits>>,
    current: Arc<Desired>,
    status: Arc<Mutex<ConfigStatus>>,
}

impl Follow {
    /// Starts with a configuration that was read already. Must be called within a runtime.
    pub fn start(source: Source, first: First, parts: Parts) -> Self {
        let Parts { watch, fetcher, revoked, rollout, metrics, proxy_groups, limits } = parts;
        let First { desired, moment, newest, error } = first;
        let revision = moment.revision();
        let status = ConfigStatus { source: source.to_string(), revision, ..ConfigStatus::default() };
        let (current, status) = (Arc::new(desired), Arc::new(Mutex::new(status)));
        let mut follow =
            Self { source, watch, rollout, fetcher, revoked, metrics, proxy_groups, limits, current, status };
        follow.accept();
        follow.warn(&follow.current);
        if let Some(error) = error {
            follow.reject(&error);
        }
        follow.source.judged(&newest);
        follow
    }

    /// What is served and what is wrong.
    pub fn status(&self) -> Arc<Mutex<ConfigStatus>> {
        Arc::clone(&self.status)
    }

    /// Follows until it is dropped.
    pub async fn run(mut self) {
        loop {
            self.watch_files();
            tokio::select! {
                () = self.watch.changed() => {}
                // A transaction is whole: nothing has to settle.
                () = self.source.changed() => {}
            }
            let floor = lock(&self.status).revision.unwrap_or(0);
            let Looked { newest, found, error } = look(&self.source, &self.current, floor).await;
            let found_none = found.is_none();
            if let Some((desired, moment)) = found {
                self.take(desired, &moment).await;
            }
            self.source.judged(&newest);
            match error {
                None => drop(self.set_error(None)),
                Some(error) => {
                    if found_none {
                        self.refresh();
                    }
                    self.reject(&error);
                }
            }
        }
    }

    /// Serves what is right.
    async fn take(&mut self, desired: Desired, moment: &Moment) {
        self.warn(&desired);
        let revision = moment.revision();
        if lock(&self.status).revision != revision {
            // Before any proxy has it: a restart must not take it back.
            let (source, moment) = (self.source.clone(), moment.clone());
            drop(tokio::task::spawn_blocking(move || source.keep(&moment)).await);
            lock(&self.status).revision = revision;
        }
        if !self.is_served(&desired) {
            self.current = Arc::new(desired);
            self.accept();
        }
    }

    /// A mistake in the YAML does not keep certificates and keys from being replaced.
    fn refresh(&mut self) {
        let Desired { gateway, files, .. } = &*self.current;
        let read = referenced::read(gateway, self.source.base_dir(), files, SystemTime::now());
        let Ok(files) = read.map(|read| read.files) else { return };
        let keys = KeySets { files, ..KeySets::default() };
        if keys.files == self.current.files || !translate::check(gateway, &keys).is_empty() {
            return;
        }
        tracing::info!(version = self.current.version, "files of the configuration replaced");
        let desired = Desired { files: keys.files, read_at: Instant::now(), ..Desired::clone(&self.current) };
        self.current = Arc::new(desired);
        self.rollout.apply(&self.current);
    }

    fn is_served(&self, desired: &Desired) -> bool {
        (&desired.version, &desired.files) == (&self.current.version, &self.current.files)
    }

    /// Links may lead elsewhere than before, and the YAML may name other files.
    fn watch_files(&mut self) {
        let mut paths: Vec<_> = self.source.path().map(Path::to_owned).into_iter().collect();
        paths.extend(referenced::paths(&self.current.gateway, self.source.base_dir()));
        self.watch.watch(&paths);
    }

    fn accept(&mut self) {
        let revision = lock(&self.status).revision;
        tracing::info!(version = self.current.version, revision, "configuration accepted");
        self.metrics.reloaded(true);
        self.fetcher.follow(&self.current.gateway);
        self.revoked.follow(&self.current.gateway);
        self.proxy_groups.apply(&self.current.gateway);
        quota::publish(&self.limits, &self.current.gateway);
        self.rollout.apply(&self.current);
        let mut status = lock(&self.status);
        status.version.clone_from(&self.current.version);
        status.groups = self.current.gateway.proxies.keys().map(ToString::to_string).collect();
        status.loaded_at = unix_seconds(SystemTime::now());
        status.error = None;
    }

    fn reject(&self, error: &ConfigError) {
        let (version, problems) = match error {
            ConfigError::Read(_) => (None, Vec::new()),
            ConfigError::Wrong { version, report } => (Some(version.clone()), report.problems.clone()),
        };
        let since = unix_seconds(SystemTime::now());
        let problem = ConfigProblem { version, text: error.to_string(), problems, since };
        if !self.set_error(Some(problem)) {
            // Polled again, and still the same.
            return;
        }
        self.metrics.reloaded(false);
        match error {
            ConfigError::Wrong { report: Report { problems }, .. } if !problems.is_empty() => {
                for problem in problems {
                    tracing::error!(
                        file = %problem.file.display(),
                        line = problem.line,
                        column = problem.column,
                        problem = problem.message,
                        help = problem.help,
                        "configuration rejected; the last good one keeps serving\n{problem}"
                    );
                }
            }
            _ => tracing::error!(problem = %error, "configuration rejected; the last good one keeps serving"),
        }
    }

    /// Shows the warnings, and logs those that are new.
    fn warn(&self, desired: &Desired) {
        let advice = self.proxy_groups.advise(&desired.gateway).into_iter();
        let advice = advice.filter_map(|problem| desired.source_map.locate(problem));
        let warnings: Vec<Located> = desired.warnings.iter().cloned().chain(advice).collect();
        let mut status = lock(&self.status);
        for warning in warnings.iter().filter(|warning| !status.warnings.contains(warning)) {
            tracing::warn!(
                file = %warning.file.display(),
                line = warning.line,
                column = warning.column,
                problem = warning.message,
                help = warning.help,
                "configuration warning; it is served all the same\n{warning}"
            );
        }
        if warnings.is_empty() && !status.warnings.is_empty() {
            tracing::info!("nothing to warn of any more");
        }
        status.warnings = warnings;
    }

    /// Whether that is news.
    fn set_error(&self, error: Option<ConfigProblem>) -> bool {
        let mut status = lock(&self.status);
        // Two versions may be wrong in the same way.
        let said =
            |error: &Option<ConfigProblem>| error.as_ref().map(|e| (e.version.clone(), e.text.clone()));
        let is_news = said(&status.error) != said(&error);
        if is_news {
            if error.is_none() {
                tracing::info!(version = status.version, "the configuration is right again, and as served");
                self.metrics.reloaded(true);
            }
            status.error = error;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_that_is_wrong_is_reported_where_the_yaml_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        let text = "version: v1\npolicies:\n  auth:\n    a:\n      any_of:\n      - jwt: { issuer: i, jwks: { file: k.json } }\n";
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("k.json"), "no").unwrap();
        let Err(ConfigError::Wrong { report, .. }) =
            load(&FileSource::new(&path), &ReferencedFiles::default())
        else {
            panic!("loaded")
        };
        assert_eq!((report.problems[0].line, report.problems[0].column), (6, 41));
        std::fs::write(folder.path().join("k.json"), r#"{"keys": []}"#).unwrap();
        assert!(load(&FileSource::new(&path), &ReferencedFiles::default()).is_ok());
    }

    #[test]
    fn what_the_filters_would_refuse_is_refused_where_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        let jwt = "jwt: { issuer: i, jwks: { inline: { keys: [] } }";
        let auth = |providers: &str| format!("auth:\n    a:\n      any_of:\n      {providers}");
        let limit = |limit: &str| format!("rate_limit:\n    r:\n      limit: 1/s\n      {limit}");
        for (policies, expected) in [
            (auth(&format!("- {jwt} }}\n      - {jwt}, prefix: 'bearer ' }}")), "/gateway.yaml:7:9"),
            (
                auth(&format!("- {jwt}, claims_to_headers: [{{ claim: '', header: x-a }}] }}")),
                "/gateway.yaml:6:",
            ),
            (limit("key: [method, { path: '/a{b}' }]"), "/gateway.yaml:6:29"),
            (limit("also: [{ limit: 1/s, key: [{ claim: '' }] }]"), "/gateway.yaml:6:43"),
            (limit("plans: { by: { claim: '' }, limits: { a: { limit: 1/s } } }"), "/gateway.yaml:6:29"),
        ] {
            let text = format!("version: v1\npolicies:\n  {policies}\n");
            std::fs::write(&path, &text).unwrap();
            let Err(error) = load(&FileSource::new(&path), &ReferencedFiles::default()) else {
                panic!("loaded:\n{text}")
            };
            let report = error.to_string();
            assert!(report.contains("the filter refuses it: ") && report.contains(expected), "{report}");
        }
    }
}
