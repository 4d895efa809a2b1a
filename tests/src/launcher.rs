//! `make run`: brings up the whole stack in the foreground, shows what happens, and stops all of it together.
//!
//! One loop looks at three things: a signal to stop, servers that have ended, and new lines in xds-server's log.

use std::{
    fs,
    io::{IsTerminal, stdout},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    http_client::Client,
    port_owner,
    ports::Ports,
    process::Process,
    render,
    stack::{Proxy, Stack, read, write},
    toolbox::Toolbox,
};

pub use args::Args;

mod args;
mod events;
mod welcome;

/// How often the loop looks.
const TICK: Duration = Duration::from_millis(50);
/// How long the servers may finish what is in flight.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long the first request through all may take to be answered.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Runs until a signal, or until a server ends. An `Ok` is a stop that was asked for.
pub fn run(args: Args) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stop.clone()).context("registering for signals")?;
    }
    let started = Instant::now();
    let toolbox = Toolbox::find()?;
    let ports = args.ports();
    check_free(&ports)?;
    let stack = prepare(args, toolbox, ports)?;
    let Some(servers) = start(stack.clone(), &stop)? else {
        say("stopped while starting");
        return Ok(());
    };
    println!("\nReady after {:.1?}.\n", started.elapsed());
    print!("{}", welcome::text(&stack));
    let outcome = watch(&servers, &stop);
    stop_all(servers)?;
    outcome
}

/// Every taken port is named with the process that holds it.
fn check_free(ports: &Ports) -> Result<()> {
    let taken: Vec<String> = ports
        .named()
        .iter()
        .filter_map(|(name, port)| {
            let owner = port_owner::of(*port)?;
            Some(format!("port {port} is taken by {owner}; stop it, or set --{name}-port"))
        })
        .collect();
    if !taken.is_empty() {
        bail!("{}", taken.join("\n"));
    }
    Ok(())
}

/// On the default ports the repository's own YAML is served, so that an edit of it is seen; on others a copy.
fn prepare(args: Args, toolbox: Toolbox, ports: Ports) -> Result<Stack> {
    let folder = args.folder.unwrap_or_else(|| toolbox.repository.join(".run"));
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let original = toolbox.envoy_config("gateway.yaml");
    let gateway = match args.config {
        Some(config) => config,
        None if ports == Ports::default() => original,
        None => {
            let copy = folder.join("gateway.yaml");
            write(&copy, &render::gateway(&read(&original)?, &ports))?;
            copy
        }
    };
    Ok(Stack { toolbox, ports, folder, gateway, concurrency: 2, xds_arguments: Vec::new(), xds_tls: None })
}

/// `None` where a signal came first; what had been started is then gone with us.
fn start(stack: Stack, stop: &AtomicBool) -> Result<Option<Vec<Process>>> {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(start_all(&stack)));
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(outcome) => return outcome.map(Some),
            Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("starting the servers ended without a result"),
        }
    }
}

/// In the order in which they need each other; stopped in the reverse.
fn start_all(stack: &Stack) -> Result<Vec<Process>> {
    let ports = &stack.ports;
    say(&format!("api-service   starting on {}", ports.api_public));
    let api_service = stack.start_api_service()?;
    say(&format!("xds-server    starting on {} with {}", ports.xds_grpc, stack.gateway.display()));
    let xds_server = stack.start_xds_server("xds-server.log")?;
    say(&format!("sidecar Envoy starting on {}", ports.sidecar_inbound));
    let sidecar = stack.start_proxy(Proxy::Sidecar)?;
    say(&format!("edge Envoy    starting on {}", ports.edge));
    let edge = stack.start_proxy(Proxy::Edge)?;
    say("waiting for a request through all of them");
    let answered = edge.wait_until("200 on /healthz through all servers", ANSWER_DEADLINE, || {
        Client::new(ports.edge).get("/healthz").send()?.expect_status(200)
    });
    answered.with_context(|| format!("logs are in {}", stack.folder.display()))?;
    Ok(vec![xds_server, api_service, sidecar, edge])
}

/// Shows what xds-server does, until a signal (`Ok`) or the end of a server (`Err`).
fn watch(servers: &[Process], stop: &AtomicBool) -> Result<()> {
    let xds_server = servers.first().context("no server is running")?;
    let mut log = xds_server.log().follow();
    while !stop.load(Ordering::Relaxed) {
        for line in log.new_lines() {
            if let Some(event) = events::describe(&line) {
                say(&event);
            }
        }
        for server in servers {
            if let Some(status) = server.exit_status()? {
                bail!("{} ended by itself, {status}\n{}", server.name(), server.report());
            }
        }
        thread::sleep(TICK);
    }
    Ok(())
}

/// All are asked to end before one is waited for; those that do not are killed.
fn stop_all(servers: Vec<Process>) -> Result<()> {
    say("stopping");
    let deadline = Instant::now() + STOP_DEADLINE;
    for server in servers.iter().rev() {
        server.terminate()?;
    }
    for server in servers.iter().rev() {
        if server.stop(deadline.saturating_duration_since(Instant::now())).is_err() {
            say(&format!("{} did not end within {STOP_DEADLINE:?}, and was killed", server.name()));
        }
    }
    say("all servers have ended");
    Ok(())
}

/// One line of progress.
fn say(text: &str) {
    let (dim, plain) = if stdout().is_terminal() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    println!("{dim}[run]{plain} {text}");
}

/// How a path is shown: from the current directory, where it lies below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
