//! Stock Envoy as a process: its command line, and the few questions that its admin interface answers.

use std::{
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, bail};

use crate::{
    http_client::Client,
    toolbox::{NATIVE_VARIABLE, Toolbox},
};

/// The command that serves with this bootstrap. Nothing in it is overridden; where the filters' library is there, what
/// native filters need is added.
pub fn serve(toolbox: &Toolbox, bootstrap: &Path, concurrency: u32) -> Result<Command> {
    let mut command = Command::new(&toolbox.envoy);
    if let Some(native) = toolbox.native_bootstrap()? {
        command.env(NATIVE_VARIABLE, &toolbox.native).args(["--config-yaml", &native]);
    }
    command.arg("-c").arg(bootstrap).args(["--concurrency", &concurrency.to_string()]);
    // There may be libraries of cargo's, one of which Envoy would find by name.
    command.env_remove("LD_LIBRARY_PATH");
    // Hot restart shares memory between the Envoys of one machine by an id; here there are several, and none.
    command.args(["--disable-hot-restart", "--log-level", "info"]);
    Ok(command)
}

/// Asks Envoy whether a bootstrap is right, without serving it.
pub fn validate(toolbox: &Toolbox, bootstrap: &Path) -> Result<Output> {
    let mut command = Command::new(&toolbox.envoy);
    command.args(["--mode", "validate", "-c"]).arg(bootstrap);
    command.output().with_context(|| format!("running {}", toolbox.envoy.display()))
}

/// Its version, as in `1.34.0`.
pub fn version(toolbox: &Toolbox) -> Result<String> {
    let output = Command::new(&toolbox.envoy).arg("--version").output().context("running Envoy")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said
        .rsplit("version:")
        .next()
        .and_then(|build| build.split('/').nth(1))
        .with_context(|| format!("Envoy gave its version as {said}"))?;
    Ok(version.to_owned())
}

/// Fails until the Envoy behind this admin port has its first configuration and serves.
pub fn ready(admin: u16) -> Result<()> {
    let reply = Client::new(admin).get("/ready").send()?;
    if reply.status != 200 {
        bail!("Envoy says {}", reply.text().trim());
    }
    Ok(())
}

/// Value of a counter or gauge; absent ones are `None`.
pub fn stat(admin: u16, name: &str) -> Result<Option<u64>> {
    let reply = Client::new(admin).get("/stats?format=text").send()?.expect_status(200)?;
    let line =
        reply.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
    line.map(|value| value.trim().parse().with_context(|| format!("{name} is {value}"))).transpose()
}
