//! `tollgate-bench`: what `make bench` starts. Parses, measures, prints.

use std::process::ExitCode;

use clap::Parser;
use tollgate_tests::bench::{self, Args};

fn main() -> ExitCode {
    match bench::run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}
