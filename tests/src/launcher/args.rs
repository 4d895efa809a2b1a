//! What `make run` can be told.

use std::path::PathBuf;

use clap::Parser;

use crate::ports::Ports;

/// Start the whole of Tollgate on this machine: xds-server, an edge Envoy, a sidecar Envoy and api-service, with
/// embedded stores and nothing else installed.
///
/// Stays in the foreground and shows one line for each configuration push. Ctrl-C stops everything.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "tollgate-run",
    version,
    after_long_help = "\
Examples:
  make run                                  the repository's envoy-configs/gateway.yaml
  make run ARGS=\"--config my/gateway.yaml\"  a YAML of yours, or a folder of them
  make run ARGS=\"--edge-port 8000\"          another port; the YAML's own addresses follow

Edit the YAML while it runs: each push, and each edit that was refused with its line, is shown here.
The servers' logs are in .run/."
)]
pub struct Args {
    /// Gateway YAML, a file or a folder [default: envoy-configs/gateway.yaml; on other ports a copy of it in .run/]
    #[arg(long, value_name = "PATH", env = "TOLLGATE_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Folder for logs and rendered files [default: .run]
    #[arg(long, value_name = "PATH", env = "TOLLGATE_RUN_FOLDER")]
    pub(super) folder: Option<PathBuf>,
    /// The edge's public listener
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().edge, env = "TOLLGATE_EDGE_PORT")]
    edge_port: u16,
    /// The edge Envoy's admin interface
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().edge_admin, env = "TOLLGATE_EDGE_ADMIN_PORT")]
    edge_admin_port: u16,
    /// The sidecar's listener for requests to api-service
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().sidecar_inbound, env = "TOLLGATE_SIDECAR_INBOUND_PORT")]
    sidecar_inbound_port: u16,
    /// The sidecar's listener for requests of api-service
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().sidecar_outbound, env = "TOLLGATE_SIDECAR_OUTBOUND_PORT")]
    sidecar_outbound_port: u16,
    /// The sidecar Envoy's admin interface
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().sidecar_admin, env = "TOLLGATE_SIDECAR_ADMIN_PORT")]
    sidecar_admin_port: u16,
    /// xds-server, gRPC
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().xds_grpc, env = "TOLLGATE_XDS_GRPC_PORT")]
    xds_grpc_port: u16,
    /// xds-server, status page and metrics
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().xds_http, env = "TOLLGATE_XDS_HTTP_PORT")]
    xds_http_port: u16,
    /// xds-server, the quota service
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().xds_quota, env = "TOLLGATE_XDS_QUOTA_PORT")]
    xds_quota_port: u16,
    /// api-service, public
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().api_public, env = "TOLLGATE_API_PUBLIC_PORT")]
    api_public_port: u16,
    /// api-service, internal
    #[arg(long, value_name = "PORT", default_value_t = Ports::default().api_internal, env = "TOLLGATE_API_INTERNAL_PORT")]
    api_internal_port: u16,
}

impl Args {
    pub(super) fn ports(&self) -> Ports {
        Ports {
            edge: self.edge_port,
            edge_admin: self.edge_admin_port,
            sidecar_inbound: self.sidecar_inbound_port,
            sidecar_outbound: self.sidecar_outbound_port,
            sidecar_admin: self.sidecar_admin_port,
            xds_grpc: self.xds_grpc_port,
            xds_http: self.xds_http_port,
            xds_quota: self.xds_quota_port,
            api_public: self.api_public_port,
            api_internal: self.api_internal_port,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_defaults_are_the_documented_ports() {
        assert_eq!(Args::parse_from(["tollgate-run"]).ports(), Ports::default());
    }

    #[test]
    fn every_port_has_a_flag_with_its_name() {
        let command = Args::command();
        for (name, _) in Ports::default().named() {
            let flag = format!("{name}-port");
            assert!(command.get_arguments().any(|arg| arg.get_long() == Some(&flag)), "--{flag}");
        }
    }
}
