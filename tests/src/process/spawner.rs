//! Starts processes so that they cannot outlive us: the kernel kills them when we are gone, be it by a panic,
//! a `SIGKILL`, or a static that is never dropped.
//!
//! Linux ties that promise to the *thread* that started the process, and test threads come and go. So one
//! thread, which never ends, starts them all.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command},
    sync::{
        OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use rustix::process::{Pid, Signal};

struct Job {
    command: Command,
    answer: Sender<io::Result<Child>>,
}

/// Starts the command; it ends with us at the latest.
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    static JOBS: OnceLock<Sender<Job>> = OnceLock::new();
    let jobs = JOBS.get_or_init(|| {
        let (sender, receiver) = channel();
        thread::spawn(move || work(&receiver));
        sender
    });
    let (answer, result) = channel();
    let gone = || io::Error::other("the thread that starts processes is gone");
    jobs.send(Job { command, answer }).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

fn work(jobs: &Receiver<Job>) {
    let us = rustix::process::getpid();
    for Job { mut command, answer } in jobs {
        // Nobody waits any more: then the child is dropped, and dies with us.
        let _ = answer.send(die_with(us, &mut command).spawn());
    }
}

#[expect(unsafe_code, reason = "only between fork and exec can a process ask to die with its parent")]
fn die_with(parent: Pid, command: &mut Command) -> &mut Command {
    // SAFETY: the closure makes two system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before the call, and then no signal would ever come.
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        })
    }
}
