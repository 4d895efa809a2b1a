//! `tollgate-run`: what `make run` starts. Parses, runs, exits.

use std::process::ExitCode;

use clap::Parser;
use tollgate_tests::launcher::{self, Args};

fn main() -> ExitCode {
    match launcher::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}
