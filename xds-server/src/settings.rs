//! What can be set: a flag and an environment variable each.

mod client_status;
mod load_reports;
mod quota;
mod transport;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub mod client;
pub mod etcd;
pub mod wasm;
pub use client_status::ClientStatus;
pub use load_reports::LoadReporting;
pub use quota::{Quota, RedisTopology};
pub use transport::{Age, Transport};

/// Tollgate's control plane: pushes listeners, routes, clusters and filters to stock Envoys from YAML that is
/// edited live.
#[derive(Debug, Parser)]
#[command(name = "xds-server", version, after_long_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  xds-server serve --config envoy-configs/gateway.yaml --wasm-dir target/wasm
  xds-server serve --etcd-endpoints 127.0.0.1:2379      # any number of them, each with a --state-dir of its own
  xds-server push envoy-configs/gateway.yaml --etcd-endpoints 127.0.0.1:2379
  xds-server validate envoy-configs/gateway.yaml
  envoy -c envoy-configs/edge.yaml        # a stock Envoy that asks this server
  xds-server status --watch
  xds-server wait --version $(xds-server validate --quiet envoy-configs/gateway.yaml)

Exit codes:
  0 done   1 failed at run time   2 bad usage   78 bad configuration (nothing was bound)";

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a gateway to Envoys, and follow its files while they are edited.
    Serve(Box<Serve>),
    /// Check a gateway as `serve` would, and say what is wrong with it.
    Validate(Validate),
    /// Check a gateway, and write it into etcd in one transaction.
    Push(Push),
    /// Show what a running server serves, and how its proxies stand.
    Status(client::Status),
    /// Wait until every proxy has accepted a version: what pipelines need.
    Wait(client::Wait),
    /// Print the reference of every YAML field (Markdown).
    Reference,
    /// Print the JSON Schema of the YAML, for editors.
    Schema,
}

/// Settings of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// The gateway: a YAML file, or a folder of them.
    pub path: PathBuf,

    /// Print the version alone, as `wait --version` takes it.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Settings of `push`.
#[derive(Debug, Args)]
#[command(after_long_help = PUSH_EXAMPLES)]
pub struct Push {
    /// The gateway: a folder of YAML files, or one file. Each is written under the prefix and its own name.
    pub path: PathBuf,

    /// Where to.
    #[command(flatten)]
    pub etcd: etcd::Etcd,

    /// Print the version alone, as `wait --version` takes it.
    #[arg(long, short)]
    pub quiet: bool,
}

const PUSH_EXAMPLES: &str = "\
Afterwards the prefix holds exactly what the folder holds: keys whose files are gone are deleted.
It is one transaction, so servers take it as one change. A gateway that is wrong is not written.
Files that the YAML names (certificates, key sets) are not written: each server reads its own.

Examples:
  xds-server push gateway/ --etcd-endpoints 10.0.0.1:2379,10.0.0.2:2379
  export TOLLGATE_ETCD_ENDPOINTS=10.0.0.1:2379
  xds-server wait --version $(xds-server push --quiet gateway/)

Exit codes:
  0 etcd holds it   1 etcd can't be reached, or refuses   2 bad usage
  78 the gateway is wrong (nothing was written)";

/// Settings of `serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The gateway: a YAML file, or a folder of them.
    #[arg(
        long,
        env = "TOLLGATE_CONFIG",
        default_value = "envoy-configs/gateway.yaml",
        conflicts_with = "etcd_endpoints"
    )]
    pub config: PathBuf,

    /// The gateway, where it is in etcd.
    #[command(flatten)]
    pub etcd: etcd::Etcd,

    /// Where Envoys connect: xDS over gRPC, aggregated (ADS). Port 0 takes a free one; the log says which.
    #[arg(long, env = "TOLLGATE_GRPC_ADDRESS", default_value = "127.0.0.1:18000")]
    pub grpc_address: SocketAddr,

    /// The connections of that port.
    #[command(flatten)]
    pub transport: Transport,

    /// Where people and monitoring look: status page, /status, /metrics, /healthz, /readyz; and
    /// from where Envoys fetch their filters.
    #[arg(long, env = "TOLLGATE_HTTP_ADDRESS", default_value = "127.0.0.1:18001")]
    pub http_address: SocketAddr,

    /// The filters' modules.
    #[command(flatten)]
    pub wasm: wasm::Wasm,

    /// Files have settled once nothing changed for this long.
    #[arg(long, env = "TOLLGATE_QUIET_PERIOD", default_value = "100ms", value_parser = duration)]
    pub quiet_period: Duration,

    /// Files that never settle are read after this long all the same.
    #[arg(long, env = "TOLLGATE_MAX_QUIET_PERIOD", default_value = "1s", value_parser = duration)]
    pub max_quiet_period: Duration,

    /// Files are looked at this often even when the file system tells of no change.
    #[arg(long, env = "TOLLGATE_POLL_INTERVAL", default_value = "5s", value_parser = duration)]
    pub poll_interval: Duration,

    /// How long a proxy may take to accept a step of a change before the others go on without it.
    #[arg(long, env = "TOLLGATE_ROLLOUT_DEADLINE", default_value = "10s", value_parser = duration)]
    pub rollout_deadline: Duration,

    /// Load reports.
    #[command(flatten)]
    pub load_reporting: LoadReporting,

    /// The quota service.
    #[command(flatten)]
    pub quota: Quota,

    /// Client status.
    #[command(flatten)]
    pub client_status: ClientStatus,

    /// Folder for what a restart must still know: the issuers' keys that were fetched last, and the last good gateway
    /// of etcd. Two servers must not share one.
    #[arg(long, env = "TOLLGATE_STATE_DIR", default_value = ".run/xds-server")]
    pub state_dir: PathBuf,

    /// What to log, as in RUST_LOG: `info`, `xds_server=debug`, …
    #[arg(long, env = "TOLLGATE_LOG", default_value = "info")]
    pub log: String,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<crate::gateway::scalar::Duration>().map(crate::gateway::scalar::Duration::get)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_setting_has_a_flag_an_environment_variable_and_help() {
        Cli::command().debug_assert();
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap();
        for setting in serve.get_arguments().filter(|setting| setting.get_id() != "help") {
            assert!(setting.get_long().is_some(), "{setting}");
            assert!(
                setting.get_env().is_some_and(|env| env.to_str().unwrap().starts_with("TOLLGATE_")),
                "{setting}"
            );
            assert!(setting.get_help().is_some(), "{setting}");
        }
    }
}
