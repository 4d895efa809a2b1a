//! Folders for what running processes write.
//!
//! They lie in `target/tmp`, one for each run, and outlive it: the logs of a failed run can be read until the next
//! run begins, which removes the folders of runs that have ended.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result};

/// A new, empty folder of this run.
pub fn new(name: &str) -> Result<PathBuf> {
    static SWEEP: Once = Once::new();
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let runs = runs()?;
    SWEEP.call_once(|| remove_ended(&runs));
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = runs.join(process::id().to_string()).join(format!("{number:03}-{name}"));
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}

/// `target/tmp/tollgate`, seen from any executable that cargo built.
fn runs() -> Result<PathBuf> {
    let own = env::current_exe().context("asking for the path of this executable")?;
    let target = own.ancestors().find(|path| path.join("CACHEDIR.TAG").is_file());
    Ok(target.map_or_else(env::temp_dir, |target| target.join("tmp")).join("tollgate"))
}

/// Best effort: a folder that cannot be removed only takes up room.
fn remove_ended(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let is_running = Path::new("/proc").join(entry.file_name()).exists();
        if !is_running {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
