//! The four servers of the stack: how each is started, and when it is ready. Shared by the launcher and the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    envoy,
    http_client::Client,
    ports::{Ports, free, loopback},
    process::Process,
    render,
    toolbox::Toolbox,
    wait::holds,
};

/// How long one server may take to be ready. Generous: the machine may be compiling at the same time.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// What the servers have in common.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Where the binaries are.
    pub toolbox: Toolbox,
    /// What they bind.
    pub ports: Ports,
    /// Where logs and rendered files go.
    pub folder: PathBuf,
    /// The gateway YAML, a file or a folder.
    pub gateway: PathBuf,
    /// Workers of each Envoy.
    pub concurrency: u32,
    /// Settings of xds-server beside those that every stack needs.
    pub xds_arguments: Vec<String>,
    /// The folder whose certificates the Envoys show to xds-server; without one, they speak plain text.
    pub xds_tls: Option<PathBuf>,
}

/// Which of the two Envoys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// Between the clients and the services.
    Edge,
    /// Beside api-service.
    Sidecar,
}

impl Proxy {
    /// Its name, which is its node cluster too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Sidecar => "sidecar",
        }
    }

    fn bootstrap(self) -> &'static str {
        match self {
            Self::Edge => "edge.yaml",
            Self::Sidecar => "sidecar.yaml",
        }
    }
}

/// An edge Envoy beside the first.
#[derive(Debug, Clone, Copy)]
pub struct AnotherEdge<'a> {
    /// Its node id.
    pub id: &'a str,
    /// Strings in its node's metadata.
    pub labels: &'a [(&'a str, &'a str)],
    /// Where it finds xds-server.
    pub xds_port: u16,
}

impl Stack {
    /// Starts xds-server and waits until it is ready: it has read its YAML.
    pub fn start_xds_server(&self, log: &str) -> Result<Process> {
        let mut command = Command::new(self.toolbox.binary("xds-server")?);
        command.arg("serve").arg("--config").arg(&self.gateway);
        command.args(["--grpc-address", &loopback(self.ports.xds_grpc).to_string()]);
        command.args(["--http-address", &loopback(self.ports.xds_http).to_string()]);
        command.args(["--quota-address", &loopback(self.ports.xds_quota).to_string()]);
        command.arg("--wasm-dir").arg(&self.toolbox.wasm);
        command.arg("--state-dir").arg(self.folder.join("xds-server")).args(&self.xds_arguments);
        self.start("xds-server", command, log, || http_ready(self.ports.xds_http))
    }

    /// Starts api-service on an empty embedded database and waits until it is ready.
    pub fn start_api_service(&self) -> Result<Process> {
        let mut command = Command::new(self.toolbox.binary("api-service")?);
        command.arg("serve");
        command.args(["--public-address", &loopback(self.ports.api_public).to_string()]);
        command.args(["--internal-address", &loopback(self.ports.api_internal).to_string()]);
        command.args(["--database", "sqlite::memory:"]);
        self.start("api-service", command, "api-service.log", || {
            http_ready(self.ports.api_public)?;
            http_ready(self.ports.api_internal)
        })
    }

    /// Starts one of the Envoys and waits until it serves. Needs xds-server.
    pub fn start_proxy(&self, proxy: Proxy) -> Result<Process> {
        let bootstrap = self.bootstrap(proxy)?;
        let command = envoy::serve(&self.toolbox, &bootstrap, self.concurrency)?;
        let log = format!("{}.log", proxy.name());
        self.start(proxy.name(), command, &log, || envoy::ready(self.admin_port(proxy)))
    }

    /// Starts one more edge Envoy, which shares the first one's listeners, and waits until it serves.
    pub fn start_another_edge(&self, edge: &AnotherEdge<'_>) -> Result<Process> {
        let ports = Ports { edge_admin: free()?, xds_grpc: edge.xds_port, ..self.ports };
        let bootstrap = render::bootstrap(&self.original(Proxy::Edge)?, &ports)?;
        let path = self.folder.join(format!("{}.yaml", edge.id));
        write(&path, &render::labelled(&bootstrap, edge.labels)?)?;
        let mut command = envoy::serve(&self.toolbox, &path, self.concurrency)?;
        command.args(["--service-node", edge.id]);
        self.start(edge.id, command, &format!("{}.log", edge.id), || envoy::ready(ports.edge_admin))
    }

    /// The port of an Envoy's admin interface.
    pub fn admin_port(&self, proxy: Proxy) -> u16 {
        match proxy {
            Proxy::Edge => self.ports.edge_admin,
            Proxy::Sidecar => self.ports.sidecar_admin,
        }
    }

    /// The repository's bootstrap: as it is on the default ports, rendered on others.
    pub fn bootstrap(&self, proxy: Proxy) -> Result<PathBuf> {
        if self.ports == Ports::default() && self.xds_tls.is_none() {
            return Ok(self.toolbox.envoy_config(proxy.bootstrap()));
        }
        let rendered = self.folder.join(proxy.bootstrap());
        write(&rendered, &render::bootstrap(&self.original(proxy)?, &self.ports)?)?;
        Ok(rendered)
    }

    /// The repository's bootstrap, which speaks mTLS where it is to.
    fn original(&self, proxy: Proxy) -> Result<String> {
        let text = read(&self.toolbox.envoy_config(proxy.bootstrap()))?;
        self.xds_tls.as_ref().map_or(Ok(text.clone()), |folder| render::secured(&text, folder))
    }

    fn start(
        &self,
        name: &str,
        command: Command,
        log: &str,
        ready: impl FnMut() -> Result<()>,
    ) -> Result<Process> {
        let process = Process::start(name, command, self.folder.join(log))?;
        process.wait_until("being ready", READY_DEADLINE, ready)?;
        Ok(process)
    }
}

/// Reads a file; the error names it.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Writes a file; the error names it.
pub fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn http_ready(port: u16) -> Result<()> {
    let reply = Client::new(port).get("/readyz").send()?;
    holds(reply.status == 200).with_context(|| format!("/readyz says {} {}", reply.status, reply.text()))
}
