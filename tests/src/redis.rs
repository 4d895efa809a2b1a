//! Redis servers for tests: one with an ACL user, over TLS, a Cluster, and a master behind Sentinels. Each test has its own,
//! in a folder of its own, and the tools to kill them and to look inside.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{ports, process::Process, stack::write, tls::Authority, wait::holds, wait::wait_until, work_dir};

/// How long a server may take to be ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// ACL user of the servers that have one.
pub const USER: &str = "tollgate";
/// Its password.
pub const PASSWORD: &str = "open-sesame";

/// One server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    /// `None` between a kill and the restart.
    process: Mutex<Option<Process>>,
    starts: Mutex<u32>,
    /// For `redis-cli`.
    login: Vec<String>,
}

impl Server {
    /// A server without a password, which writes each change to disk before it answers: a crash forgets nothing.
    pub fn durable() -> Result<Self> {
        let options = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        Self::start("redis", &options, &[])
    }

    /// A server without a password that keeps nothing on disk.
    pub fn in_memory() -> Result<Self> {
        Self::start("redis", &["--save", ""], &[])
    }

    /// A server that only knows [`USER`], who may do what the quota service does, with its own keys.
    pub fn with_acl_user() -> Result<Self> {
        let rule = format!(
            "user {USER} on >{PASSWORD} ~tollgate:quota:* -@all +eval +evalsha +get +set +del +time +ping"
        );
        let folder = work_dir::new("redis-acl")?;
        let acl = folder.join("users.acl");
        write(&acl, &format!("user default off\n{rule}\n"))?;
        let acl = acl.to_string_lossy().into_owned();
        let login = ["--user", USER, "--pass", PASSWORD, "--no-auth-warning"];
        Self::start("redis-acl", &["--save", "", "--aclfile", &acl], &login)
    }

    /// A server that speaks TLS only, with a certificate for `localhost` of that authority.
    pub fn with_tls(authority: &Authority) -> Result<Self> {
        let folder = work_dir::new("redis-tls-files")?;
        let issued = authority.issue(&["localhost", "127.0.0.1"])?;
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        write(&folder.join("chain.pem"), &issued.chain)?;
        write(&folder.join("key.pem"), &issued.key)?;
        write(&folder.join("ca.pem"), authority.pem())?;
        let (chain, key, ca) = (path("chain.pem"), path("key.pem"), path("ca.pem"));
        let options = [
            "--save",
            "",
            "--tls-cert-file",
            &chain,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ];
        Self::start_on("redis-tls", "--tls-port", &options, &["--tls", "--cacert", &ca])
    }

    fn start(name: &str, options: &[&str], login: &[&str]) -> Result<Self> {
        Self::start_on(name, "--port", options, login)
    }

    fn start_on(name: &str, port_option: &str, options: &[&str], login: &[&str]) -> Result<Self> {
        let (port, folder) = (ports::free()?, work_dir::new(name)?);
        let mut arguments = vec![port_option.to_owned(), port.to_string()];
        if port_option != "--port" {
            arguments.extend(["--port".into(), "0".into()]);
        }
        arguments.extend(["--bind".into(), "127.0.0.1".into()]);
        arguments.extend(["--dir".into(), folder.to_string_lossy().into_owned()]);
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let login = login.iter().map(|word| (*word).to_owned()).collect();
        let server =
            Self { port, folder, arguments, process: Mutex::default(), starts: Mutex::default(), login };
        server.run()?;
        Ok(server)
    }

    /// Starts it, again after a kill, and waits until it answers.
    pub fn run(&self) -> Result<()> {
        let mut command = Command::new("redis-server");
        if self.arguments.iter().any(|argument| argument == "--sentinel") {
            // Sentinels keep what they learn in their file, which stands first.
            command.arg(self.folder.join("sentinel.conf"));
        }
        command.args(&self.arguments);
        let mut starts = lock(&self.starts);
        *starts += 1;
        let process = Process::start("redis", command, self.folder.join(format!("redis-{starts}.log")))?;
        process.wait_until("answering PING", READY_DEADLINE, || {
            let pong = self.command(&["PING"])?;
            holds(pong.trim() == "PONG").with_context(|| format!("it says {pong}"))
        })?;
        *lock(&self.process) = Some(process);
        Ok(())
    }

    /// Kills it as a crash does.
    pub fn kill(&self) -> Result<()> {
        match lock(&self.process).take() {
            Some(process) => process.kill().map(drop),
            None => bail!("this Redis is not running"),
        }
    }

    /// What `redis-cli` prints for a command.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let output = self.cli().args(words).output().context("running redis-cli")?;
        printed(&output)
    }

    fn cli(&self) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(&self.login);
        command
    }
}

/// A Cluster of three nodes.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes.
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// Starts the nodes and gives each a third of the slots.
    pub fn start() -> Result<Self> {
        let node = |_| {
            let bus = ports::free()?.to_string();
            let options = ["--save", "", "--cluster-enabled", "yes", "--cluster-port", &bus];
            Server::start("redis-cluster", &options, &[])
        };
        let nodes = (0..3).map(node).collect::<Result<Vec<_>>>()?;
        let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(&addresses);
        create.args(["--cluster-replicas", "0", "--cluster-yes"]);
        printed(&create.output().context("running redis-cli")?)?;
        for node in &nodes {
            wait_until("the cluster to be whole", READY_DEADLINE, || {
                holds(node.command(&["CLUSTER", "INFO"])?.contains("cluster_state:ok"))
            })?;
        }
        Ok(Self { nodes })
    }
}

/// A master with a replica, and three Sentinels that watch them.
#[derive(Debug)]
pub struct Guarded {
    /// The first master, and the replica.
    pub servers: [Server; 2],
    /// The Sentinels.
    pub sentinels: Vec<Server>,
}

/// What the Sentinels call the master.
pub const MASTER: &str = "quota";

impl Guarded {
    /// Starts all, and waits until every Sentinel knows the others and the replica.
    pub fn start() -> Result<Self> {
        let master = Server::start("redis-master", &["--save", ""], &[])?;
        let of = format!("127.0.0.1 {}", master.port);
        let replica = Server::start("redis-replica", &["--save", "", "--replicaof", &of], &[])?;
        wait_until("the replica to follow", READY_DEADLINE, || {
            holds(replica.command(&["INFO", "replication"])?.contains("master_link_status:up"))
        })?;
        let sentinels = (0..3).map(|_| sentinel(master.port)).collect::<Result<Vec<_>>>()?;
        for sentinel in &sentinels {
            wait_until("the Sentinels to know each other", READY_DEADLINE, || {
                let said = sentinel.command(&["SENTINEL", "MASTER", MASTER])?;
                let number =
                    |key: &str| said.lines().skip_while(|line| *line != key).nth(1).map(str::to_owned);
                let known = (number("num-other-sentinels"), number("num-slaves"));
                holds(known == (Some("2".into()), Some("1".into()))).with_context(|| format!("{known:?}"))
            })?;
        }
        Ok(Self { servers: [master, replica], sentinels })
    }
}

fn sentinel(master: u16) -> Result<Server> {
    let (port, folder) = (ports::free()?, work_dir::new("sentinel")?);
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 5000\n",
        folder.display()
    );
    fs::write(folder.join("sentinel.conf"), text).context("writing sentinel.conf")?;
    let server = Server {
        port,
        folder,
        arguments: vec!["--sentinel".into()],
        process: Mutex::default(),
        starts: Mutex::default(),
        login: Vec::new(),
    };
    server.run()?;
    Ok(server)
}

fn printed(output: &Output) -> Result<String> {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("redis-cli: {}, {text}{errors}", output.status);
    }
    Ok(text.into_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
