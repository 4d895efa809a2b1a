//! Who listens on a port: read from `/proc`, so that a taken port can be named with its process.

use std::{
    fmt, fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use crate::ports::loopback;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The process that holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// A process that we may look at.
    Process {
        /// Its number.
        pid: u32,
        /// Its name, as `ps` shows it.
        name: String,
    },
    /// A process of another user, whose files we may not see.
    User {
        /// The user's number.
        uid: u32,
    },
    /// No listener was found; it may have gone in the meantime.
    Unknown,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "process {pid} ({name})"),
            Self::User { uid } => write!(f, "a process of another user (uid {uid})"),
            Self::Unknown => f.write_str("an unknown process"),
        }
    }
}

/// `None` where the loopback port is free to bind.
pub fn of(port: u16) -> Option<PortOwner> {
    if TcpListener::bind(loopback(port)).is_ok() {
        return None;
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let Some(listener) = tables.iter().find_map(|table| listener(table, port)) else {
        return Some(PortOwner::Unknown);
    };
    let owner = process_with_socket(listener.inode)
        .map_or(PortOwner::User { uid: listener.uid }, |(pid, name)| PortOwner::Process { pid, name });
    Some(owner)
}

#[derive(Debug, PartialEq, Eq)]
struct Listener {
    uid: u32,
    inode: u64,
}

/// Columns: slot, local `ADDRESS:PORT` in hexadecimal, remote, state, queues, timer, retransmits, uid, timeout,
/// inode (proc_pid_net(5)).
fn listener(table: &str, port: u16) -> Option<Listener> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = columns.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local_port, 16) == Ok(port) && *columns.get(3)? == LISTEN;
        let listener = Listener { uid: columns.get(7)?.parse().ok()?, inode: columns.get(9)?.parse().ok()? };
        is_it.then_some(listener)
    })
}

fn process_with_socket(inode: u64) -> Option<(u32, String)> {
    let wanted = PathBuf::from(format!("socket:[{inode}]"));
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let folder = Path::new("/proc").join(pid.to_string());
        let mut files = fs::read_dir(folder.join("fd")).ok()?.flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target == wanted)).then(|| {
            let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            (pid, name.trim().to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;
    use crate::ports;

    #[test]
    fn a_port_that_we_hold_is_ours() {
        let held = TcpListener::bind(loopback(ports::free().unwrap())).unwrap();
        let owner = of(held.local_addr().unwrap().port()).unwrap();
        assert!(matches!(owner, PortOwner::Process { pid, .. } if pid == process::id()), "{owner}");
    }

    #[test]
    fn a_free_port_has_no_owner() {
        assert_eq!(of(ports::free().unwrap()), None);
    }

    #[test]
    fn a_connection_from_the_port_is_no_listener() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:2710 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 11 1\n   \
             1: 0100007F:2710 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 12 1\n";
        assert_eq!(listener(table, 10_000), Some(Listener { uid: 1001, inode: 12 }));
        assert_eq!(listener(table, 10_001), None);
    }
}
