//! Where etcd is, and who asks it: for `serve` and `push`.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::duration;

/// Settings of etcd.
#[derive(Debug, Clone, Args)]
pub struct Etcd {
    /// Where etcd is: HOST:PORT or a URL, several with commas. The gateway is then in etcd: every key under
    /// --etcd-prefix is one YAML document, and all of them are merged like the files of a folder.
    #[arg(long, env = "TOLLGATE_ETCD_ENDPOINTS", value_name = "ENDPOINTS", value_delimiter = ',')]
    pub etcd_endpoints: Vec<Endpoint>,

    /// What the keys begin with, as in /tollgate/gateway.yaml.
    #[arg(long, env = "TOLLGATE_ETCD_PREFIX", value_name = "PREFIX", default_value = "/tollgate/", value_parser = prefix)]
    pub etcd_prefix: String,

    /// Who asks, where etcd has its authentication on.
    #[arg(long, env = "TOLLGATE_ETCD_USER", value_name = "NAME")]
    pub etcd_user: Option<String>,

    /// The user's password; better in the environment, or in a file, than on a command line.
    #[arg(
        long,
        env = "TOLLGATE_ETCD_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        requires = "etcd_user"
    )]
    pub etcd_password: Option<Secret>,

    /// File with the user's password.
    #[arg(
        long,
        env = "TOLLGATE_ETCD_PASSWORD_FILE",
        value_name = "FILE",
        requires = "etcd_user",
        conflicts_with = "etcd_password"
    )]
    pub etcd_password_file: Option<PathBuf>,

    /// File with the authorities (PEM) that etcd's certificate is held against; with it, TLS is spoken.
    #[arg(long, env = "TOLLGATE_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,

    /// File with the certificate (PEM) that is shown to etcd. It is read for every connection, like all these files.
    #[arg(long, env = "TOLLGATE_ETCD_CERT", value_name = "FILE", requires_all = ["etcd_ca", "etcd_key"])]
    pub etcd_cert: Option<PathBuf>,

    /// File with that certificate's key (PEM).
    #[arg(long, env = "TOLLGATE_ETCD_KEY", value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,

    /// How long a server that starts asks for etcd before it serves what --state-dir keeps; without that, it ends.
    #[arg(long, env = "TOLLGATE_ETCD_START_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub etcd_start_timeout: Duration,
}

impl Etcd {
    /// Whether the gateway is in etcd.
    pub fn is_set(&self) -> bool {
        !self.etcd_endpoints.is_empty()
    }

    /// What speaks against these settings.
    ///
    /// # Errors
    /// When TLS is asked for, and nobody says whom to believe; or the other way round.
    pub fn check(&self) -> Result<(), String> {
        for endpoint in &self.etcd_endpoints {
            if endpoint.0.starts_with("https:") && self.etcd_ca.is_none() {
                return Err(format!(
                    "{endpoint} needs --etcd-ca, which says whose certificates are believed"
                ));
            }
            if endpoint.0.starts_with("http:") && self.etcd_ca.is_some() {
                return Err(format!("{endpoint} is without TLS, and --etcd-ca is set: one of them is wrong"));
            }
        }
        Ok(())
    }

    /// The URL of an endpoint; behind the last comes the first again.
    pub fn endpoint(&self, number: usize) -> String {
        let Some(endpoint) = self.etcd_endpoints.get(number % self.etcd_endpoints.len().max(1)) else {
            return String::new();
        };
        match (endpoint.0.contains("://"), &self.etcd_ca) {
            (true, _) => endpoint.0.clone(),
            (false, Some(_)) => format!("https://{endpoint}"),
            (false, None) => format!("http://{endpoint}"),
        }
    }
}

/// For people: `etcd 10.0.0.1:2379,10.0.0.2:2379 /tollgate/`.
impl fmt::Display for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<&str> = self.etcd_endpoints.iter().map(|endpoint| &*endpoint.0).collect();
        write!(f, "etcd {} {}", endpoints.join(","), self.etcd_prefix)
    }
}

/// `HOST:PORT`, or a URL with `http` or `https` and no more than a host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('/');
        let authority =
            text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
        match authority.parse::<crate::gateway::scalar::Address>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => {
                Err(format!("`{text}` is not of the form HOST:PORT, http://HOST:PORT or https://HOST:PORT"))
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that no debug form shows.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn get(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Without a prefix, all of etcd would be the gateway.
fn prefix(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("it is empty: the keys of other programs would be taken for the gateway".to_owned()),
        false => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        etcd: Etcd,
    }

    fn parse(arguments: &[&str]) -> Result<Etcd, String> {
        let parsed = Only::try_parse_from(std::iter::once(&"x").chain(arguments));
        parsed.map(|only| only.etcd).map_err(|error| error.to_string())
    }

    #[test]
    fn an_endpoint_without_a_scheme_speaks_tls_once_there_is_an_authority() {
        let plain = parse(&["--etcd-endpoints", "a:1,http://b:2/"]).unwrap();
        assert_eq!(
            [plain.endpoint(0), plain.endpoint(1), plain.endpoint(2)],
            ["http://a:1", "http://b:2", "http://a:1"]
        );
        assert_eq!(plain.to_string(), "etcd a:1,http://b:2 /tollgate/");
        assert_eq!(plain.check(), Ok(()));
        let tls = parse(&["--etcd-endpoints", "a:1", "--etcd-ca", "ca.pem"]).unwrap();
        assert_eq!(tls.endpoint(0), "https://a:1");
        assert_eq!(tls.check(), Ok(()));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for bad in ["a", "a:0", "ftp://a:1", "http://a:1/x", ""] {
            assert!(parse(&["--etcd-endpoints", bad]).is_err(), "{bad}");
        }
        assert!(parse(&["--etcd-prefix", ""]).is_err());
        assert!(parse(&["--etcd-cert", "c", "--etcd-ca", "a"]).is_err());
        assert!(parse(&["--etcd-password-file", "p"]).is_err());
        assert!(
            parse(&["--etcd-endpoints", "https://a:1"]).unwrap().check().unwrap_err().contains("--etcd-ca")
        );
        let mixed = parse(&["--etcd-endpoints", "http://a:1", "--etcd-ca", "a"]).unwrap();
        assert!(mixed.check().unwrap_err().contains("without TLS"));
    }

    #[test]
    fn the_password_is_not_shown() {
        let settings = parse(&["--etcd-user", "u", "--etcd-password", "hunter2"]).unwrap();
        assert_eq!(settings.etcd_password.as_ref().unwrap().get(), "hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
