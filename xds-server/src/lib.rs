//! Tollgate's control plane: desired state in, xDS out.
//!
//! ```text
//! source (files, etcd) → gateway (YAML model, checked) → translate (Envoy protos) → snapshot (immutable, versioned)
//!    → rollout (who may move to it, and when) → discovery (per-stream xDS state) → Envoy → load_reports
//! ```
//!
//! Data flows that way only. `gateway` knows no proto, `translate` does no I/O, `discovery` knows neither.

use std::io::Write;
use std::process::ExitCode;

use client::Client;
use settings::client::{Status, Wait};
use settings::{Cli, Command, Push, Serve, Validate};

pub mod client;
pub mod client_status;
pub mod discovery;
mod fence;
mod fetch;
pub mod follow;
pub mod gateway;
pub mod grouping;
pub mod http;
pub mod load_reports;
pub mod modules;
mod proto_time;
pub mod quota;
pub mod reference;
pub mod revocations;
pub mod rollout;
pub mod serve;
pub mod settings;
pub mod snapshot;
pub mod source;
mod status;
pub mod telemetry;
pub mod translate;

/// Failed at run time.
const FAILED: u8 = 1;
/// What was asked for makes no sense.
const BAD_USAGE: u8 = 2;
/// The configuration is wrong; nothing was bound (`EX_CONFIG` of sysexits.h).
const BAD_CONFIGURATION: u8 = 78;

/// Runs the program.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Serve(settings) => serve(&settings),
        Command::Validate(settings) => validate(&settings),
        Command::Push(settings) => push(&settings),
        Command::Status(settings) => status(&settings),
        Command::Wait(settings) => wait(&settings),
        Command::Reference => print(&reference::markdown()),
        Command::Schema => print(&format!("{:#}\n", reference::schema())),
    }
}

fn serve(settings: &Serve) -> ExitCode {
    if let Err(error) = telemetry::init_logs(&settings.log) {
        return fail(BAD_USAGE, &error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("can't start threads: {error}")),
    };
    runtime.block_on(async {
        let shutdown = match shutdown_signal() {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(FAILED, &format!("can't listen for signals: {error}")),
        };
        match serve::Server::build(settings).await {
            Ok(server) => match server.run_until(shutdown).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(FAILED, &format!("{error:#}")),
            },
            Err(error) => fail(error.exit_code(), &error.to_string()),
        }
    })
}

fn validate(settings: &Validate) -> ExitCode {
    match follow::load(&source::file::FileSource::new(&settings.path), &gateway::ReferencedFiles::default()) {
        Ok(desired) if settings.quiet => print(&format!("{}\n", desired.version)),
        Ok(desired) => {
            for warning in &desired.warnings {
                let _ = writeln!(std::io::stderr(), "{warning}\n");
            }
            let gateway = &desired.gateway;
            let routes = gateway.listeners.values().flat_map(|listener| &listener.virtual_hosts);
            print(&format!(
                "{} is right: version {}, {} listeners, {} routes, {} clusters\n",
                settings.path.display(),
                desired.version,
                gateway.listeners.len(),
                routes.map(|host| host.routes.len()).sum::<usize>(),
                gateway.clusters.len(),
            ))
        }
        Err(error) => fail(BAD_CONFIGURATION, &error.to_string()),
    }
}

fn push(settings: &Push) -> ExitCode {
    if !settings.etcd.is_set() {
        return fail(
            BAD_USAGE,
            "nobody says where etcd is: set --etcd-endpoints, or TOLLGATE_ETCD_ENDPOINTS",
        );
    }
    if let Err(error) = settings.etcd.check() {
        return fail(BAD_USAGE, &error);
    }
    let checked = match follow::check_texts(&source::file::FileSource::new(&settings.path)) {
        Ok(checked) => checked,
        Err(error) => return fail(BAD_CONFIGURATION, &error.to_string()),
    };
    for warning in &checked.warnings {
        let _ = writeln!(std::io::stderr(), "{warning}\n");
    }
    let pushed = on_runtime(source::etcd::push::push(&settings.etcd, &checked.documents));
    match pushed {
        Ok(Ok(_)) if settings.quiet => print(&format!("{}\n", checked.version)),
        Ok(Ok(pushed)) => print(&format!(
            "{} holds version {} at revision {}: {} keys written, {} deleted\n",
            settings.etcd, checked.version, pushed.revision, pushed.put, pushed.deleted
        )),
        Ok(Err(error)) => fail(FAILED, &error.to_string()),
        Err(error) => fail(FAILED, &error),
    }
}

fn status(settings: &Status) -> ExitCode {
    ask(&settings.server.server, async |client| match settings.watch {
        true => {
            client::status::watch(&client, settings.json).await;
            Ok(String::new())
        }
        false => client::status::show(&client, settings.json).await.map_err(|error| error.to_string()),
    })
}

fn wait(settings: &Wait) -> ExitCode {
    ask(&settings.server.server, async |client| {
        let arrived =
            client::wait::wait(&client, &settings.version, &settings.group, settings.timeout).await?;
        Ok(format!("{arrived}\n"))
    })
}

/// Asks a running server, and prints what came of it.
fn ask(server: &str, question: impl AsyncFnOnce(Client) -> Result<String, String>) -> ExitCode {
    let client = match Client::new(server) {
        Ok(client) => client,
        Err(error) => return fail(BAD_USAGE, &error.to_string()),
    };
    match on_runtime(question(client)).flatten() {
        Ok(text) => print(&text),
        Err(error) => fail(FAILED, &error),
    }
}

fn on_runtime<T>(task: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| format!("can't start: {error}"))?.block_on(task))
}

/// Resolves at SIGTERM or SIGINT.
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn print(text: &str) -> ExitCode {
    // A reader that went away (`| head`) is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(code: u8, text: &str) -> ExitCode {
    let text = if text.starts_with("error") { text.to_owned() } else { format!("error: {text}") };
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(code)
}
