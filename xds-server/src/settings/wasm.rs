//! Where the filters' modules are, and how Envoys get them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::gateway::scalar::Address;

/// Settings of the filters' modules.
#[derive(Debug, Clone, Args)]
pub struct Wasm {
    /// Folder with gateway.wasm. With `--wasm-delivery file`, as the Envoys see it.
    #[arg(long, env = "TOLLGATE_WASM_DIR", default_value = "target/wasm")]
    pub wasm_dir: PathBuf,

    /// How Envoys get the filters: over HTTP from this server, which follows the files while they change, or from a folder
    /// of their own.
    #[arg(long, env = "TOLLGATE_WASM_DELIVERY", value_enum, default_value = "http")]
    pub wasm_delivery: WasmDelivery,

    /// Where Envoys reach --http-address, as http://HOST:PORT. Default: that address itself, unless it stands for all
    /// interfaces.
    #[arg(long, env = "TOLLGATE_WASM_URL", value_name = "URL")]
    pub wasm_url: Option<WasmUrl>,
}

impl Wasm {
    /// Where Envoys fetch the modules that a server on `http` serves.
    ///
    /// # Errors
    /// When the address is one that no Envoy can connect to, and none is set.
    pub fn origin(&self, http: SocketAddr) -> Result<Address, String> {
        match &self.wasm_url {
            Some(WasmUrl(address)) => Ok(address.clone()),
            None if http.ip().is_unspecified() => Err(format!(
                "Envoys can't fetch filters from {http}: set --wasm-url to an address of this server, or --wasm-delivery file"
            )),
            None => Ok(Address { host: http.ip().to_string(), port: http.port() }),
        }
    }
}

/// How Envoys get the filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WasmDelivery {
    /// Over HTTP, by their SHA-256.
    Http,
    /// From files that the Envoys have.
    File,
}

/// An HTTP origin without a path. There is no TLS: what is fetched is checked by its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasmUrl(Address);

impl FromStr for WasmUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}` is not of the form http://HOST:PORT");
        let authority = text.strip_prefix("http://").ok_or_else(expected)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        authority.parse().map(Self).map_err(|_| expected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: Option<&str>, http: &str) -> Result<String, String> {
        let settings = Wasm {
            wasm_dir: PathBuf::new(),
            wasm_delivery: WasmDelivery::Http,
            wasm_url: url.map(|url| url.parse().unwrap()),
        };
        settings.origin(http.parse().unwrap()).map(|address| address.to_string())
    }

    #[test]
    fn envoys_fetch_from_the_http_address_unless_told_another() {
        assert_eq!(origin(None, "127.0.0.1:18001").as_deref(), Ok("127.0.0.1:18001"));
        assert_eq!(origin(None, "[::1]:18001").as_deref(), Ok("[::1]:18001"));
        assert_eq!(origin(Some("http://xds.example:80/"), "0.0.0.0:18001").as_deref(), Ok("xds.example:80"));
        assert!(origin(None, "0.0.0.0:18001").unwrap_err().contains("--wasm-url"));
    }

    #[test]
    fn an_origin_has_a_scheme_a_host_a_port_and_no_more() {
        for bad in ["https://a:1", "a:1", "http://a", "http://a:1/x", "http://:1", "http://a:0"] {
            assert!(bad.parse::<WasmUrl>().unwrap_err().contains("http://HOST:PORT"), "{bad}");
        }
    }
}
