//! `tollgate-soak`: what `make soak` starts. Parses, soaks, exits.

use std::process::ExitCode;

use clap::Parser;
use tollgate_tests::soak::{self, Args};

fn main() -> ExitCode {
    match soak::run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}
