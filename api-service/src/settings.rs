//! Settings: a flag and an environment variable each, parsed into types here and nowhere else.
//!
//! What the parser cannot see, because it takes two values together, is in [`Settings::check`].

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// Backend of the Tollgate gateway.
#[derive(Debug, Parser)]
#[command(name = "api-service", version, about = ABOUT, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API until SIGTERM or SIGINT, then drain and exit
    #[command(after_help = AFTER_HELP)]
    Serve(Settings),
}

const ABOUT: &str = "Accounts, API keys, an API catalogue and daily statistics over HTTP.\n\n\
    Stands behind the gateway's sidecar, which says who is calling; issues the access tokens and API keys \
    that the gateway's edge checks.";

const AFTER_HELP: &str = "\
Examples:
  Try it, keeping nothing:
    api-service serve --database sqlite::memory:

  Without a gateway in front, checking access tokens itself:
    api-service serve --identity bearer

Exit codes: 0 done, 1 failed at run time, 2 bad usage, 78 bad configuration (nothing was bound).
Logs go to stderr: text on a terminal, JSON lines otherwise.";

/// How the service knows who is calling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IdentityMode {
    /// The `x-consumer-id` header says it: safe only where nobody but the sidecar reaches the public port,
    /// because the edge strips that header from what clients send
    Gateway,
    /// The access token in `authorization: Bearer …` says it, and the service verifies it
    Bearer,
}

/// Everything `serve` can be told.
#[derive(Debug, Clone, Parser)]
pub struct Settings {
    /// Where the API listens; port 0 takes a free one, see the log line `listening`
    #[arg(
        long,
        env = "TOLLGATE_API_PUBLIC_ADDRESS",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS"
    )]
    pub public_address: SocketAddr,

    /// Where introspection, keys and metrics listen: for the gateway and operators, never for clients
    #[arg(
        long,
        env = "TOLLGATE_API_INTERNAL_ADDRESS",
        default_value = "127.0.0.1:8082",
        value_name = "ADDRESS"
    )]
    pub internal_address: SocketAddr,

    /// Where data is kept: `sqlite://PATH?mode=rwc`, or `sqlite::memory:` to forget it on exit. It holds the
    /// private signing keys; a new file is readable to its owner only
    #[arg(
        long,
        env = "TOLLGATE_API_DATABASE",
        hide_env_values = true,
        default_value = "sqlite://.run/api.sqlite?mode=rwc",
        value_name = "URL"
    )]
    pub database: String,

    /// `iss` of access tokens; the gateway's JWT policy names the same
    #[arg(long, env = "TOLLGATE_API_ISSUER", default_value = "https://tollgate.example", value_name = "URL")]
    pub issuer: String,

    /// `aud` of access tokens
    #[arg(long, env = "TOLLGATE_API_AUDIENCE", default_value = "api", value_name = "NAME")]
    pub audience: String,

    /// How long an access token works. Keep it short: what ends its session reaches gateways that poll `/revocations` only
    #[arg(long, env = "TOLLGATE_API_ACCESS_TOKEN_TTL", default_value = "15m", value_parser = duration)]
    pub access_token_ttl: Duration,

    /// How long a refresh token works when it is not used
    #[arg(long, env = "TOLLGATE_API_REFRESH_TOKEN_TTL", default_value = "30d", value_parser = duration)]
    pub refresh_token_ttl: Duration,

    /// How long a revoked key stays on the list of `/revocations`; gateways may remember keys (`positive_ttl`) no longer
    #[arg(long, env = "TOLLGATE_API_REVOCATION_RETENTION", default_value = "1h", value_parser = duration)]
    pub revocation_retention: Duration,

    /// How the service knows who is calling
    #[arg(long, env = "TOLLGATE_API_IDENTITY", default_value = "gateway", value_enum)]
    pub identity: IdentityMode,

    /// Largest request body, in bytes
    #[arg(long, env = "TOLLGATE_API_MAX_BODY", default_value_t = 64 * 1024, value_name = "BYTES")]
    pub max_body: usize,

    /// How long a client may take to send a body, before 408
    #[arg(long, env = "TOLLGATE_API_BODY_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub body_timeout: Duration,

    /// How long a request may take in all, before 503
    #[arg(long, env = "TOLLGATE_API_REQUEST_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub request_timeout: Duration,

    /// How long a connection may take to send the headers of its next request, idle time included. Keep the
    /// gateway's upstream idle timeout below it, or it will reuse connections that are being closed
    #[arg(long, env = "TOLLGATE_API_KEEP_ALIVE", default_value = "75s", value_parser = duration)]
    pub keep_alive: Duration,

    /// Requests in progress at once on each port, before 503
    #[arg(long, env = "TOLLGATE_API_MAX_REQUESTS", default_value_t = 512, value_name = "COUNT")]
    pub max_requests: usize,

    /// Open connections on each port; more wait in the listen backlog
    #[arg(long, env = "TOLLGATE_API_MAX_CONNECTIONS", default_value_t = 4096, value_name = "COUNT")]
    pub max_connections: usize,

    /// Passwords hashed at once; each takes a processor and 19 MiB
    #[arg(long, env = "TOLLGATE_API_MAX_PASSWORD_HASHES", default_value_t = 2, value_name = "COUNT")]
    pub max_password_hashes: usize,

    /// Entries the in-memory cache holds
    #[arg(long, env = "TOLLGATE_API_CACHE_ENTRIES", default_value_t = 10_000, value_name = "COUNT")]
    pub cache_entries: usize,

    /// How long a cached key or API is believed; another instance's revocation is seen after this at most
    #[arg(long, env = "TOLLGATE_API_CACHE_TTL", default_value = "5s", value_parser = duration)]
    pub cache_ttl: Duration,

    /// How long requests in flight may take to finish after SIGTERM
    #[arg(long, env = "TOLLGATE_API_DRAIN_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub drain_timeout: Duration,

    /// What is logged: a level, or `tracing` directives like `info,api_service=debug`
    #[arg(long, env = "TOLLGATE_API_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

impl Settings {
    /// Checks what only shows when values are taken together or used.
    ///
    /// # Errors
    /// A sentence naming the flag and what it must be.
    pub fn check(&self) -> Result<(), String> {
        for (flag, duration) in [
            ("--access-token-ttl", self.access_token_ttl),
            ("--refresh-token-ttl", self.refresh_token_ttl),
            ("--revocation-retention", self.revocation_retention),
            ("--body-timeout", self.body_timeout),
            ("--request-timeout", self.request_timeout),
            ("--keep-alive", self.keep_alive),
            ("--cache-ttl", self.cache_ttl),
        ] {
            let century = Duration::from_secs(100 * 366 * 24 * 3600);
            if duration.is_zero() || duration > century {
                return Err(format!("{flag} must be more than nothing and less than a century"));
            }
        }
        for (flag, count) in [
            ("--max-body", self.max_body),
            ("--max-requests", self.max_requests),
            ("--max-connections", self.max_connections),
            ("--max-password-hashes", self.max_password_hashes),
            ("--cache-entries", self.cache_entries),
        ] {
            // The upper bound is what a tokio semaphore can count.
            if count == 0 || count > usize::MAX >> 3 {
                return Err(format!("{flag} must be at least 1"));
            }
        }
        if self.access_token_ttl.as_secs() == 0 || self.refresh_token_ttl.as_secs() == 0 {
            return Err("token lifetimes must be at least a second".to_owned());
        }
        if self.refresh_token_ttl < self.access_token_ttl {
            return Err("--refresh-token-ttl must not be below --access-token-ttl".to_owned());
        }
        if self.body_timeout > self.request_timeout {
            return Err("--body-timeout must not exceed --request-timeout".to_owned());
        }
        if self.public_address == self.internal_address && self.public_address.port() != 0 {
            return Err("--public-address and --internal-address must differ".to_owned());
        }
        if self.issuer.is_empty() || self.audience.is_empty() {
            return Err("--issuer and --audience must not be empty".to_owned());
        }
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 500ms, 10s, 15m or 30d"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn settings(flags: &[&str]) -> Settings {
        let flags = ["api-service", "serve"].iter().chain(flags);
        let Command::Serve(settings) = Cli::try_parse_from(flags).unwrap().command;
        settings
    }

    #[test]
    fn the_defaults_are_a_good_configuration() {
        assert_eq!(settings(&[]).check(), Ok(()));
    }

    #[test]
    fn every_setting_has_a_flag_a_variable_a_default_and_a_text() {
        let mut command = Cli::command();
        command.build();
        let serve = command.find_subcommand("serve").unwrap();
        let settings: Vec<_> = serve.get_arguments().filter(|arg| arg.get_id() != "help").collect();
        assert_eq!(settings.len(), 20);
        for setting in settings {
            let name = setting.get_long().unwrap();
            let variable = format!("TOLLGATE_API_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(setting.get_env().and_then(|name| name.to_str()), Some(variable.as_str()));
            assert!(!setting.get_default_values().is_empty(), "{name}");
            assert!(setting.get_help().is_some(), "{name}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        for (flags, named) in [
            (["--access-token-ttl", "0s"], "--access-token-ttl"),
            (["--access-token-ttl", "31d"], "--refresh-token-ttl"),
            (["--access-token-ttl", "10ms"], "at least a second"),
            (["--refresh-token-ttl", "1000years"], "--refresh-token-ttl"),
            (["--body-timeout", "11s"], "--body-timeout"),
            (["--public-address", "127.0.0.1:8082"], "--public-address"),
            (["--max-requests", "0"], "--max-requests"),
            (["--max-password-hashes", "0"], "--max-password-hashes"),
            (["--issuer", ""], "--issuer"),
        ] {
            let error = settings(&flags).check().unwrap_err();
            assert!(error.contains(named), "{flags:?}: {error}");
        }
    }
}
