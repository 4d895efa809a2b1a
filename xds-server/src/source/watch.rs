//! Tells when files have changed, once they have settled.
//!
//! Editors write, rename and chmod, several files are saved at once, Kubernetes swaps a link: all of it is one
//! change. It is told after a quiet period, or after a maximum where there is no quiet. Whether the content
//! differs is the reader's question. A slow poll beside it covers file systems that tell nothing (NFS).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::links::folders_to_watch;
use crate::settings::Serve;

/// When a change has settled.
#[derive(Debug, Clone, Copy)]
pub struct Settle {
    /// Time without any event.
    pub quiet: Duration,
    /// Time after the first event, at most.
    pub max: Duration,
    /// Time between two looks without any event.
    pub poll: Duration,
}

impl Settle {
    /// As set.
    pub fn of(settings: &Serve) -> Self {
        Self { quiet: settings.quiet_period, max: settings.max_quiet_period, poll: settings.poll_interval }
    }
}

/// Watches paths; see [`Watch::changed`].
pub struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    events: Arc<Notify>,
    settle: Settle,
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the system gives no watcher (out of inotify instances).
    pub fn new(settle: Settle) -> Result<Self, notify::Error> {
        let events = Arc::new(Notify::new());
        let sender = Arc::clone(&events);
        let watcher = notify::recommended_watcher(move |event: Result<Event, notify::Error>| {
            // Our own reading is an event, too. An error may hide a change, so it counts as one.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                sender.notify_one();
            }
        })?;
        Ok(Self { watcher, folders: BTreeSet::new(), events, settle })
    }

    /// Watches exactly `paths`, and every link they lead through. Call it again after each change: links may
    /// lead elsewhere now. What can't be watched is left to the poll.
    pub fn watch(&mut self, paths: &[PathBuf]) {
        let folders: BTreeSet<PathBuf> = paths.iter().flat_map(|path| folders_to_watch(path)).collect();
        for gone in self.folders.difference(&folders) {
            // A folder that is deleted has lost its watch already.
            let _ = self.watcher.unwatch(gone);
        }
        for folder in &folders {
            // Also those watched before: a folder of the same name may be another one now.
            if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %folder.display(), %error, "can't watch; polling instead");
            }
        }
        self.folders = folders;
    }

    /// Waits until something may have changed, and has settled. Cancel-safe but for the settling.
    pub async fn changed(&mut self) {
        if timeout_at(Instant::now() + self.settle.poll, self.events.notified()).await.is_err() {
            return;
        }
        let deadline = Instant::now() + self.settle.max;
        loop {
            let quiet = (Instant::now() + self.settle.quiet).min(deadline);
            if timeout_at(quiet, self.events.notified()).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    const NEVER: Duration = Duration::from_secs(3_600);

    fn watch(path: &Path, quiet: Duration, max: Duration) -> Watch {
        let mut watch = Watch::new(Settle { quiet, max, poll: NEVER }).unwrap();
        watch.watch(&[path.to_owned()]);
        watch
    }

    async fn assert_told(watch: &mut Watch, what: &str) {
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect(what);
    }

    #[tokio::test]
    async fn writing_renaming_over_and_deleting_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        std::fs::write(&path, "1").unwrap();
        let mut watch = watch(&path, Duration::from_millis(20), NEVER);
        std::fs::write(&path, "2").unwrap();
        assert_told(&mut watch, "written").await;
        std::fs::write(folder.path().join("new"), "3").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_told(&mut watch, "renamed over").await;
        std::fs::remove_file(&path).unwrap();
        assert_told(&mut watch, "deleted").await;
    }

    #[tokio::test]
    async fn swapped_links_are_told() {
        let folder = tempfile::tempdir().unwrap();
        for release in ["1", "2"] {
            std::fs::create_dir(folder.path().join(release)).unwrap();
            std::fs::write(folder.path().join(release).join("gateway.yaml"), release).unwrap();
        }
        symlink("1", folder.path().join("..data")).unwrap();
        symlink("..data/gateway.yaml", folder.path().join("gateway.yaml")).unwrap();
        let mut watch = watch(&folder.path().join("gateway.yaml"), Duration::from_millis(20), NEVER);
        symlink("2", folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        assert_told(&mut watch, "swapped").await;
        assert_eq!(std::fs::read_to_string(folder.path().join("gateway.yaml")).unwrap(), "2");
    }

    #[tokio::test]
    async fn reading_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        std::fs::write(&path, "1").unwrap();
        let mut watch = watch(&path, Duration::from_millis(1), NEVER);
        std::fs::read_to_string(&path).unwrap();
        let told = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
        assert!(told.is_err(), "a read was told as a change");
    }

    #[tokio::test]
    async fn without_any_quiet_the_maximum_tells() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        let mut watch = watch(folder.path(), NEVER, Duration::from_millis(50));
        std::fs::write(&path, "1").unwrap();
        assert_told(&mut watch, "the maximum").await;
    }
}
