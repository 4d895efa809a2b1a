//! Values written as text: durations (`1.5s`), rates (`100/s`), names and regular expressions.
//!
//! Each parses from a string with an error that says what would be right, and keeps a form that cannot be
//! wrong any more.

mod identity;
mod regex;
mod tls;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

pub use self::identity::Identity;
pub use self::regex::Regex;
pub use self::tls::{FilePath, ServerName, SubjectAltName};

/// A length of time: `250ms`, `5s`, `2m`, `1h30m`. More than nothing, and at most 10 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(std::time::Duration);

impl Duration {
    /// Whole milliseconds; for defaults written in code.
    pub const fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// As the standard library has it.
    pub fn get(self) -> std::time::Duration {
        self.0
    }

    /// Milliseconds.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("`{text}` is no duration: expected a number with a unit, such as 250ms, 5s, 2m or 1h30m")
        };
        let (mut rest, mut nanos) = (text, 0f64);
        if rest.is_empty() {
            return Err(expected());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(expected)?;
            let number: f64 = rest[..digits].parse().map_err(|_| expected())?;
            rest = &rest[digits..];
            let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            nanos += number
                * match &rest[..unit] {
                    "us" => 1e3,
                    "ms" => 1e6,
                    "s" => 1e9,
                    "m" => 60e9,
                    "h" => 3_600e9,
                    "d" => 86_400e9,
                    _ => return Err(expected()),
                };
            rest = &rest[unit..];
        }
        if !(1e6..=3_650.0 * 86_400e9).contains(&nanos) {
            return Err(format!("`{text}` is out of range: between 1ms and 3650d"));
        }
        Ok(Self(std::time::Duration::from_nanos(nanos as u64)))
    }
}

/// Requests per period: `100/s`, `5000/m`, `1/h`, `20/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests, at least 1.
    pub requests: u64,
    /// The time they are for.
    pub period: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("`{text}` is no rate: expected requests per time, such as 100/s, 5000/m or 20/10s");
        let (requests, period) = text.split_once('/').ok_or_else(expected)?;
        let requests: u64 = requests.parse().map_err(|_| expected())?;
        if !(1..=1_000_000_000).contains(&requests) {
            return Err(format!("`{text}` is out of range: between 1 and 1000000000 requests"));
        }
        let counted = period.starts_with(|c: char| c.is_ascii_digit());
        let period = match period {
            "w" => "7d".parse(),
            // Buckets know no calendar.
            "mo" => "30d".parse(),
            _ if counted => period.parse(),
            _ => format!("1{period}").parse(),
        };
        Ok(Self { requests, period: period.map_err(|_| expected())? })
    }
}

/// The name of a listener, cluster, policy, proxy or route: letters, digits, `.`, `_`, `-`; at most 128.
/// Names end up in Envoy resource names, metadata and metrics, where other characters have meanings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match text {
            "" => Err("a name may not be empty".into()),
            _ if text.len() > 128 => Err(format!("`{text}` is longer than 128 characters")),
            _ if !text.chars().all(fits) => {
                Err(format!("`{text}` is no name: use letters, digits, `.`, `_` and `-`"))
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A header name, lower case; pseudo-headers (`:path`) and `host` are refused where they would break Envoy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderName(String);

impl HeaderName {
    /// The text, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A header name known to be right; for defaults written in code.
    pub fn known(name: &'static str) -> Self {
        Self(name.to_owned())
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HeaderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if text.is_empty() || text.len() > 256 || !text.chars().all(token) {
            return Err(format!("`{text}` is no header name (RFC 9110 section 5.1)"));
        }
        if text.eq_ignore_ascii_case("host") {
            return Err(
                "`host` can't be used here: see `hosts` of the virtual host, or `rewrite: {host: …}`".into(),
            );
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// A header value: any text without control characters, as long as Envoy takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValue(String);

impl HeaderValue {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.chars().find(|c| c.is_control() && *c != '\t') {
            Some(c) => Err(format!("a header value may not hold the control character {c:?}")),
            None if text.len() > 16_384 => {
                Err(format!("a header value of {} bytes is longer than 16384", text.len()))
            }
            None => Ok(Self(text.to_owned())),
        }
    }
}

/// A path that starts with `/` and is written as Envoy compares it: normalised, without query, fragment or
/// escapes. Anything else would never match, or match one of two spellings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("`{text}` is no path: it must start with /"));
        };
        match text.chars().find(|c| "?#%\\".contains(*c) || !c.is_ascii_graphic()) {
            Some('?' | '#') => {
                return Err(format!("`{text}` holds a query or fragment: match queries with `query:`"));
            }
            Some('%') => {
                return Err(format!(
                    "`{text}` holds an escape, which clients may write in two ways: use a regex"
                ));
            }
            Some(c) => return Err(format!("`{text}` holds {c:?}, which no normalised path has")),
            None => {}
        }
        let last = rest.split('/').count() - 1;
        for (index, segment) in rest.split('/').enumerate() {
            if matches!(segment, "." | "..") || (segment.is_empty() && index < last) {
                return Err(format!("`{text}` is not normalised: requests never hold //, /./ or /../"));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where a listener or an endpoint is: `HOST:PORT`; IPv6 in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// IP address or DNS name, without brackets.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
}

impl Address {
    /// The host where it is an IP address, which needs no resolver.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("`{text}` is no address: expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080");
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port: u16 = port.parse().map_err(|_| expected())?;
        if port == 0 {
            return Err(format!("`{text}`: port 0 can't be used here"));
        }
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            Some(_) => return Err(expected()),
            None => {
                let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                if host.is_empty() || host.len() > 253 || !host.chars().all(label) {
                    return Err(expected());
                }
                host
            }
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A reference to a policy, or `none` to go without the inherited one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyRef {
    /// No policy here.
    None,
    /// The policy of that name.
    Named(Name),
}

impl FromStr for PolicyRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            _ => text.parse().map(Self::Named),
        }
    }
}

/// Gives text types their `Deserialize` and `JsonSchema`.
macro_rules! from_text {
    ($($type:ty, $describe:literal;)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'_, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $describe.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "x-type": $describe})
            }
        }
    )*};
}

from_text! {
    Address, "address";
    Duration, "duration";
    FilePath, "file";
    HeaderName, "header name";
    HeaderValue, "text";
    Name, "name";
    Path, "path";
    PolicyRef, "policy";
    Rate, "rate";
    regex::Regex, "regular expression";
    ServerName, "server name";
    SubjectAltName, "subject alternative name";
    Identity, "identity";
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_their_units() {
        for (text, millis) in
            [("250ms", 250), ("5s", 5_000), ("1h30m", 5_400_000), ("1.5s", 1_500), ("2d", 172_800_000)]
        {
            assert_eq!(text.parse::<Duration>().map(Duration::as_millis), Ok(millis), "{text}");
        }
        for text in ["", "5", "s", "5 s", "-1s", "0s", "1y", "1e9s", "99999d", "5s3", "..s"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_requests_per_period() {
        let rate: Rate = "20/10s".parse().unwrap();
        assert_eq!((rate.requests, rate.period.as_millis()), (20, 10_000));
        let rate: Rate = "5000/m".parse().unwrap();
        assert_eq!((rate.requests, rate.period.as_millis()), (5_000, 60_000));
        let month: Rate = "9/mo".parse().unwrap();
        assert_eq!(month, "9/30d".parse().unwrap());
        assert_eq!("1/w".parse::<Rate>(), "1/7d".parse());
        for text in ["100", "/s", "0/s", "-1/s", "1/", "1/0s", "1/x"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for text in ["127.0.0.1:80", "[::1]:8080", "api.internal:443"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["127.0.0.1", ":80", "::1:80", "[x]:80", "a b:80", "a:0", "a:70000", "a:"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn paths_are_normalised() {
        for text in ["/", "/v1/", "/a.b/..c", "/~user;x=1/@"] {
            assert!(text.parse::<Path>().is_ok(), "{text}");
        }
        for text in
            ["", "v1", "/a//b", "//", "/a/./b", "/a/..", "/a?b", "/a#b", "/a%20b", "/ü", "/a b", "/a\\b"]
        {
            assert!(text.parse::<Path>().is_err(), "{text}");
        }
    }

    #[test]
    fn header_names_are_tokens_in_lower_case() {
        assert_eq!("X-Api-Key".parse::<HeaderName>().unwrap().as_str(), "x-api-key");
        for text in ["", ":path", "a b", "Host", "a\n"] {
            assert!(text.parse::<HeaderName>().is_err(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in "\\PC{0,24}") {
            let _ = (text.parse::<Duration>(), text.parse::<Rate>(), text.parse::<Address>());
            let _ = (text.parse::<Name>(), text.parse::<HeaderName>(), text.parse::<Regex>(), text.parse::<Path>());
        }
    }
}
