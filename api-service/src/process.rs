//! The process around the application: logs, signals and exit codes.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::application::{Application, BuildError};
use crate::settings::{Cli, Command, Settings};

/// Exit code for a failure at run time.
pub const FAILED: u8 = 1;
/// Exit code for a bad configuration (`EX_CONFIG` of sysexits.h): nothing was bound.
pub const BAD_CONFIGURATION: u8 = 78;

/// Runs the command to its end.
pub fn run(cli: Cli) -> ExitCode {
    let Command::Serve(settings) = cli.command;
    if let Err(error) = log_to_stderr(&settings.log) {
        eprintln!("error: {error:#}");
        return ExitCode::from(BAD_CONFIGURATION);
    }
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(BuildError::Configuration(error)) => {
            tracing::error!(error = format!("{error:#}"), "bad configuration");
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(BuildError::Runtime(error)) => {
            tracing::error!(error = format!("{error:#}"), "failed");
            ExitCode::from(FAILED)
        }
    }
}

fn serve(settings: Settings) -> Result<(), BuildError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        // Before anything is bound: a signal must never find the default handler once we can be reached.
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let application = Application::build(settings).await?;
        application.run_until_stopped(stop).await?;
        Ok(())
    })
}

/// Text for people on a terminal, one JSON object a line for machines otherwise.
fn log_to_stderr(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log filter `{filter}` is invalid"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if std::io::stderr().is_terminal() {
        logs.try_init()
    } else {
        logs.with_ansi(false).json().flatten_event(true).with_span_list(false).try_init()
    };
    installed.map_err(|error| anyhow::anyhow!("cannot install the logger: {error}"))
}
