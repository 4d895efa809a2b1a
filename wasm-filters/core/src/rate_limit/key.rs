//! What a limit counts apart: the parts of its key, and whose plan a request is under.

use std::borrow::Cow;

use tollgate_filter_config::{KeyPart, PlanSource};

use crate::headers as names;
use crate::path_template::PathTemplate;

/// What a key may be made of; each is read only when a policy needs it.
pub trait KeySource {
    /// Who is calling, as the auth filter found out; `None` where nobody is known.
    fn consumer(&self) -> Option<Cow<'_, [u8]>>;
    /// A claim of the credential, as text; `None` where there is none, or no credential.
    fn claim(&self, name: &str) -> Option<Cow<'_, [u8]>>;
    /// Every value of a request header, in order, as the auth filter left them.
    fn header(&self, name: &str) -> Vec<Cow<'_, [u8]>>;
    /// The client's address as Envoy writes it, `127.0.0.1:4242` or `[::1]:4242`; empty if unknown.
    fn client_address(&self) -> Vec<u8>;
    /// Name of the route; empty if it has none.
    fn route_name(&self) -> Vec<u8>;
}

/// One part of a key.
#[derive(Debug)]
pub(super) enum Part {
    Consumer,
    ClientAddress,
    Route,
    Method,
    Header(String),
    Claim(String),
    Path(PathTemplate),
}

impl Part {
    /// A part as it is configured; else the field that is wrong, and what is.
    pub fn new(part: &KeyPart) -> Result<Self, (&'static str, String)> {
        Ok(match part {
            KeyPart::Consumer => Self::Consumer,
            KeyPart::ClientAddress => Self::ClientAddress,
            KeyPart::Route => Self::Route,
            KeyPart::Method => Self::Method,
            KeyPart::Header(name) => Self::Header(header_name(name)?),
            KeyPart::Claim(name) => Self::Claim(claim_name(name)?),
            KeyPart::Path(template) => {
                Self::Path(PathTemplate::parse(template).map_err(|error| ("path", error.to_string()))?)
            }
        })
    }

    /// Adds the part to a key.
    fn push(&self, key: &mut Vec<u8>, request: &dyn KeySource) {
        match self {
            Self::Consumer => match request.consumer() {
                Some(consumer) if !consumer.is_empty() => push(key, b'c', &consumer),
                _ => push(key, b'a', without_port(&request.client_address())),
            },
            Self::ClientAddress => push(key, b'a', without_port(&request.client_address())),
            Self::Route => push(key, b'r', &request.route_name()),
            Self::Method => push(key, b'm', request.header(":method").first().map_or(&[][..], |m| m)),
            Self::Header(name) => push_all(key, b'h', &request.header(name)),
            Self::Claim(name) => push_all(key, b'l', request.claim(name).as_slice()),
            Self::Path(template) => {
                let path = request.header(":path");
                match path.first().and_then(|path| template.values(path)) {
                    Some(values) => push_all(key, b'p', &values),
                    // All that are not like the template share a bucket.
                    None => push(key, b'q', &[]),
                }
            }
        }
    }
}

/// The key of a request's bucket: the name of what it is limited by and each part, with lengths, so that no two requests
/// that differ in a part have one key.
pub(super) fn key(name: &str, parts: &[Part], request: &dyn KeySource) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    push(&mut key, b'n', name.as_bytes());
    for part in parts {
        part.push(&mut key, request);
    }
    key
}

/// Where a request's plan stands; else the field that is wrong, and what is.
pub(super) fn plan_source(by: &PlanSource) -> Result<PlanSource, (&'static str, String)> {
    Ok(match by {
        PlanSource::Claim(name) => PlanSource::Claim(claim_name(name)?),
        PlanSource::Header(name) => PlanSource::Header(header_name(name)?),
    })
}

/// The plan of a request. A header that stands twice says nothing.
pub(super) fn plan<'r>(by: &PlanSource, request: &'r dyn KeySource) -> Option<Cow<'r, [u8]>> {
    match by {
        PlanSource::Claim(name) => request.claim(name),
        PlanSource::Header(name) => {
            let mut values = request.header(name);
            values.pop().filter(|_| values.is_empty())
        }
    }
}

fn header_name(name: &str) -> Result<String, (&'static str, String)> {
    match names::is_valid_name(name) {
        true => Ok(name.to_owned()),
        false => Err(("header", "is not a lower-case header name".to_owned())),
    }
}

fn claim_name(name: &str) -> Result<String, (&'static str, String)> {
    match name.is_empty() {
        false => Ok(name.to_owned()),
        true => Err(("claim", "is empty".to_owned())),
    }
}

fn push_all(key: &mut Vec<u8>, tag: u8, values: &[Cow<'_, [u8]>]) {
    push(key, tag, &(values.len() as u64).to_le_bytes());
    values.iter().for_each(|value| push(key, b'v', value));
}

fn push(key: &mut Vec<u8>, tag: u8, part: &[u8]) {
    key.push(tag);
    key.extend_from_slice(&(part.len() as u64).to_le_bytes());
    key.extend_from_slice(part);
}

/// `127.0.0.1:4242` without `:4242`, `[::1]:4242` as `[::1]`. Other addresses (a Unix socket's path) as they
/// are.
fn without_port(address: &[u8]) -> &[u8] {
    match address.iter().rposition(|byte| *byte == b':').and_then(|colon| address.split_at_checked(colon)) {
        Some((host, port)) if port.get(1..).is_some_and(|port| port.iter().all(u8::is_ascii_digit)) => host,
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_loses_only_its_port() {
        for (address, host) in [
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("/run/x.sock", "/run/x.sock"),
            ("", ""),
            (":", ""),
        ] {
            assert_eq!(without_port(address.as_bytes()), host.as_bytes());
        }
    }
}
