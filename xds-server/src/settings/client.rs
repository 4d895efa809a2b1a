//! Settings of the commands that ask a running server: `status` and `wait`.

use std::time::Duration;

use clap::Args;

/// Which server is asked.
#[derive(Debug, Args)]
pub struct ServerUrl {
    /// The server's HTTP address, as its `--http-address` has it.
    #[arg(long, env = "TOLLGATE_SERVER", default_value = "http://127.0.0.1:18001")]
    pub server: String,
}

/// Settings of `status`.
#[derive(Debug, Args)]
#[command(after_long_help = "Exit codes:\n  0 shown   1 the server can't be reached   2 bad usage")]
pub struct Status {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub server: ServerUrl,

    /// Print the server's own document instead of a table; what it holds may grow.
    #[arg(long)]
    pub json: bool,

    /// Go on until Ctrl-C: redraw every second; where the output is no terminal, print a line for each change.
    #[arg(long)]
    pub watch: bool,
}

/// Settings of `wait`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example, in a pipeline:
  version=$(xds-server validate --quiet gateway/) && cp gateway/* /etc/tollgate/ && xds-server wait --version $version

Exit codes:
  0 the server serves the version, and every connected proxy has accepted it
  1 it was rejected, a proxy refused part of it, or the time is over: the message says which, and who is behind
  2 bad usage")]
pub struct Wait {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub server: ServerUrl,

    /// Version of the configuration, as `validate --quiet` prints it.
    #[arg(long, value_name = "VERSION")]
    pub version: String,

    /// How long to wait, also for a server that can't be reached yet.
    #[arg(long, default_value = "60s", value_parser = super::duration)]
    pub timeout: Duration,

    /// Wait for this group of proxies only; may be given several times.
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
}
