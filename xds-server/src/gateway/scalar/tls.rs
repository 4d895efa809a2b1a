//! What TLS names things by: files, servers, and the names in certificates.

use std::net::IpAddr;
use std::str::FromStr;

/// Characters in a path at most, as file systems have it for one name.
const MAX_PATH: usize = 255;

/// A file that the YAML names: absolute, or relative to the folder of the YAML.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePath(String);

impl FilePath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FilePath {
    type Err = String;

    /// The error never shows the text: somebody may have pasted the key itself.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_path = !text.is_empty()
            && text.len() <= MAX_PATH
            && !text.chars().any(char::is_control)
            && !text.contains("-----BEGIN");
        match is_path {
            true => Ok(Self(text.to_owned())),
            false => {
                Err("this is no path: a file is named here, its content never stands in the YAML".into())
            }
        }
    }
}

/// A DNS name as a client asks for it (SNI, RFC 6066 section 3): neither an IP address nor a wildcard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerName(String);

impl ServerName {
    /// The text, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match is_dns(text) && text.parse::<IpAddr>().is_err() {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(format!("`{text}` is no server name: a DNS name such as api.internal is needed")),
        }
    }
}

/// A name that a certificate must hold (RFC 5280 section 4.2.1.6). Which kind is told by its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectAltName {
    /// `api.internal`. A certificate for `*.internal` holds it, too.
    Dns(String),
    /// `spiffe://example.org/api`.
    Uri(String),
    /// `10.0.0.7`.
    Ip(IpAddr),
}

impl FromStr for SubjectAltName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_uri = text.split_once("://").is_some_and(|(scheme, rest)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                && !rest.is_empty()
                && rest.chars().all(|c| c.is_ascii_graphic())
        });
        if let Ok(address) = text.parse() {
            Ok(Self::Ip(address))
        } else if is_uri && text.len() <= 2_048 {
            Ok(Self::Uri(text.to_owned()))
        } else if is_dns(text) {
            Ok(Self::Dns(text.to_ascii_lowercase()))
        } else {
            Err(format!(
                "`{text}` is no subject alternative name: expected a DNS name, a URI such as \
                 spiffe://example.org/api, or an IP address"
            ))
        }
    }
}

fn is_dns(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_subject_alternative_name_tells_its_kind() {
        let parse = |text: &str| text.parse::<SubjectAltName>();
        assert_eq!(parse("API.internal"), Ok(SubjectAltName::Dns("api.internal".into())));
        assert_eq!(parse("10.0.0.7"), Ok(SubjectAltName::Ip([10, 0, 0, 7].into())));
        let spiffe = "spiffe://example.org/ns/a";
        assert_eq!(parse(spiffe), Ok(SubjectAltName::Uri(spiffe.into())));
        for text in ["", "*.internal", "a b", "://x", "spiffe://", "a..b", "ü.example"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn server_names_are_dns_names() {
        assert!("api.internal".parse::<ServerName>().is_ok());
        for text in ["", "127.0.0.1", "::1", "*.internal", "api.internal:443", "https://api"] {
            assert!(text.parse::<ServerName>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_pasted_in_place_of_a_path_is_refused_and_not_shown() {
        for text in ["-----BEGIN PRIVATE KEY-----", "hunter\n2", &"hunter2".repeat(64)] {
            let error = text.parse::<FilePath>().unwrap_err();
            assert!(!error.contains("hunter") && !error.contains("BEGIN"), "{error}");
        }
        assert!("certs/public.key".parse::<FilePath>().is_ok());
    }
}
