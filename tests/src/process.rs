//! A server as a process: started with its output in a log file, asked about, stopped, never left behind.
//!
//! Each runs in a process group of its own, so that a Ctrl-C at the terminal reaches only us, and dies with us
//! whatever happens to us (see [`spawner`]).

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal};

use crate::wait;

pub use log::{Entry, Follower, Log};

mod log;
mod spawner;

/// How many lines of a log stand in an error.
const TAIL_LINES: usize = 40;

/// A started process. Dropping it kills its group.
#[derive(Debug)]
pub struct Process {
    name: String,
    command_line: String,
    pid: Pid,
    child: Mutex<Child>,
    log: Log,
}

impl Process {
    /// Starts `command` with both of its outputs in a new file at `log`.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let command_line = command_line(&command);
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = spawner::spawn(command).with_context(|| format!("starting {name}: {command_line}"))?;
        let pid = Pid::from_child(&child);
        Ok(Self { name: name.to_owned(), command_line, pid, child: Mutex::new(child), log: Log::new(log) })
    }

    /// What it was called at its start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// What it has printed so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        self.child().try_wait().with_context(|| format!("asking for the status of {}", self.name))
    }

    /// [`wait::wait_until`], given up as soon as the process has ended. The error shows the process.
    pub fn wait_until<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut probe: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let outcome = wait::wait_until(what, deadline, || match probe() {
            Ok(found) => Ok(Ok(found)),
            Err(why) => match self.exit_status()? {
                Some(_) => Ok(Err(why.context(format!("{} ended before {what}", self.name)))),
                None => Err(why),
            },
        });
        outcome.flatten().map_err(|why| anyhow!("{why:#}\n{}", self.report()))
    }

    /// Sends SIGTERM and waits for the end; after the deadline, kills it and fails.
    pub fn stop(&self, deadline: Duration) -> Result<ExitStatus> {
        self.terminate()?;
        let ended = wait::wait_until(&format!("{} to end on SIGTERM", self.name), deadline, || {
            self.exit_status()?.context("still running")
        });
        ended.or_else(|missed| {
            self.kill()?;
            Err(anyhow!("{missed:#}\n{}", self.report()))
        })
    }

    /// Sends SIGTERM, and does not wait. Fine where it has ended already.
    pub fn terminate(&self) -> Result<()> {
        if self.exit_status()?.is_none() {
            let sent = rustix::process::kill_process(self.pid, Signal::TERM);
            sent.with_context(|| format!("sending SIGTERM to {}", self.name))?;
        }
        Ok(())
    }

    /// Sends SIGKILL to the whole group, and waits for the end.
    pub fn kill(&self) -> Result<ExitStatus> {
        let mut child = self.child();
        // Only while it is not reaped is the number sure to be its own.
        if child.try_wait()?.is_none() {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
        child.wait().with_context(|| format!("waiting for the end of {}", self.name))
    }

    /// Command, status and the end of the log, for whoever has to find out what went wrong.
    pub fn report(&self) -> String {
        let status = match self.exit_status() {
            Ok(None) => format!("running, pid {}", self.pid()),
            Ok(Some(status)) => format!("ended, {status}"),
            Err(why) => format!("unknown: {why:#}"),
        };
        let (name, command, path) = (&self.name, &self.command_line, self.log.path().display());
        format!("--- {name}: {status}\n    {command}\n--- end of {path}\n{}", self.log.tail(TAIL_LINES))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// As one would type it into a shell.
fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
        if is_plain { word.into_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work_dir;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let log = work_dir::new("process").unwrap().join("sh.log");
        Process::start("sh", command, log).unwrap()
    }

    #[test]
    fn dropping_a_process_kills_its_whole_group() {
        let process = shell("sleep 1000 & echo child $!; wait");
        let child = process
            .wait_until("the child's number", SOON, || {
                let text = process.log().text();
                text.strip_prefix("child ").map(|pid| pid.trim().to_owned()).context("no line yet")
            })
            .unwrap();
        drop(process);
        let cmdline = format!("/proc/{child}/cmdline");
        // A killed orphan stays a zombie until init reaps it; a zombie has no command line.
        wait::wait_until("the child's end", SOON, || {
            wait::holds(fs::read(&cmdline).map_or(true, |text| text.is_empty()))
        })
        .unwrap();
    }

    #[test]
    fn an_ended_process_ends_the_wait_and_shows_its_log() {
        let process = shell("echo out of luck; exit 3");
        let waited = process.wait_until("a miracle", SOON, || wait::holds(false));
        let text = format!("{:#}", waited.unwrap_err());
        assert!(text.contains("sh ended before a miracle"), "{text}");
        assert!(text.contains("exit status: 3") && text.contains("out of luck"), "{text}");
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed() {
        let process = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        process.wait_until("the trap", SOON, || wait::holds(process.log().text().contains("ready"))).unwrap();
        let stopped = process.stop(Duration::from_millis(100));
        assert!(stopped.is_err());
        assert!(process.exit_status().unwrap().is_some());
    }
}
