//! The `xds-server` program: parse, run, exit.

use std::process::ExitCode;

use clap::Parser;
use xds_server::settings::Cli;

fn main() -> ExitCode {
    xds_server::run(Cli::parse())
}
