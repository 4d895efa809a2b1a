//! The `api-service` binary: parse, run, exit. Everything else is in the library.

use std::process::ExitCode;

use api_service::process;
use api_service::settings::Cli;
use clap::Parser as _;

fn main() -> ExitCode {
    process::run(Cli::parse())
}
