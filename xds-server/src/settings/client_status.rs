//! Settings of the client status discovery service (CSDS).

use clap::Args;

use crate::client_status::Visibility;

/// Settings of client status.
#[derive(Debug, Clone, Args)]
pub struct ClientStatus {
    /// Whose configuration status a peer of the gRPC port may ask for (CSDS).
    #[arg(long = "client-status", env = "TOLLGATE_CLIENT_STATUS", default_value = "own-group", value_enum)]
    pub visibility: Visibility,
}
