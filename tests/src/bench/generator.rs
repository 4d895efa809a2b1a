//! What makes the load: `wrk` where it is installed, since it takes least of the machine; else our own.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::Args;
use crate::{load::Load, ports::loopback};

/// A load generator.
#[derive(Debug, Clone, Copy)]
pub(super) enum Generator {
    Wrk,
    Own,
}

impl Generator {
    pub(super) fn find() -> Self {
        let wrk = Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if wrk.is_ok() { Self::Wrk } else { Self::Own }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::Own => "the harness's own load",
        }
    }

    /// Requests per second on that port. Every answer must be 200: what is refused is cheaper.
    pub(super) fn requests_per_second(
        self,
        args: &Args,
        port: u16,
        headers: &[(&'static str, &str)],
    ) -> Result<f64> {
        match self {
            Self::Wrk => wrk(args, port, headers, None),
            Self::Own => own(args, port, headers),
        }
    }

    /// The same for the requests that a script of `wrk` makes; `None` where there is no `wrk`.
    pub(super) fn scripted(self, args: &Args, port: u16, script: &Path) -> Option<Result<f64>> {
        match self {
            Self::Wrk => Some(wrk(args, port, &[], Some(script))),
            Self::Own => None,
        }
    }
}

fn own(args: &Args, port: u16, headers: &[(&'static str, &str)]) -> Result<f64> {
    let load = Load::on(port).get("/", headers).connections(args.connections);
    let report = load.run_for(Duration::from_secs(args.seconds))?;
    if report.failures() > 0 {
        bail!("requests failed: {report}");
    }
    Ok(report.per_second())
}

fn wrk(args: &Args, port: u16, headers: &[(&'static str, &str)], script: Option<&Path>) -> Result<f64> {
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-c", &args.connections.to_string(), "-d", &format!("{}s", args.seconds)]);
    for (name, value) in headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(format!("http://{}/", loopback(port))).output().context("running wrk")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || said.contains("Non-2xx") || said.contains("Socket errors") {
        bail!("requests failed: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    let figure = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    figure.context("wrk gave no figure")?.trim().parse().context("wrk gave a strange figure")
}
