//! The little of protobuf and of the delta discovery messages that the load needs: it counts resources and reads their
//! names, and never looks into them, so that what is measured is the server.

use anyhow::{Context, Result, bail};

/// Type URLs of what is subscribed to.
pub(super) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub(super) const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub(super) const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// A `DeltaDiscoveryResponse`, still encoded but for what the load looks at.
#[derive(Debug, Default)]
pub(super) struct Response<'a> {
    pub type_url: &'a str,
    pub nonce: &'a str,
    pub resources: Vec<&'a [u8]>,
}

impl<'a> Response<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self> {
        let mut response = Self::default();
        for field in Fields(message) {
            match field? {
                (2, resource) => response.resources.push(resource),
                (4, url) => response.type_url = str::from_utf8(url)?,
                (5, nonce) => response.nonce = str::from_utf8(nonce)?,
                _ => {}
            }
        }
        Ok(response)
    }

    /// The resources' names, in the order they came.
    pub(super) fn names(&self) -> impl Iterator<Item = Result<&'a str>> {
        self.resources.iter().map(|resource| {
            for field in Fields(resource) {
                if let (3, name) = field? {
                    return Ok(str::from_utf8(name)?);
                }
            }
            bail!("a resource without a name")
        })
    }
}

/// A `DeltaDiscoveryRequest` as a gRPC message.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    pub node: Option<&'a str>,
    pub type_url: &'a str,
    pub subscribe: &'a [String],
    pub nonce: &'a str,
}

impl Request<'_> {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = vec![0; 5];
        if let Some(id) = self.node {
            let mut node = Vec::new();
            put(1, id.as_bytes(), &mut node);
            put(1, &node, &mut out);
        }
        put(2, self.type_url.as_bytes(), &mut out);
        self.subscribe.iter().for_each(|name| put(3, name.as_bytes(), &mut out));
        if !self.nonce.is_empty() {
            put(6, self.nonce.as_bytes(), &mut out);
        }
        let len = u32::try_from(out.len() - 5).unwrap_or(u32::MAX);
        out[1..5].copy_from_slice(&len.to_be_bytes());
        out
    }
}

/// The length-delimited fields of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.0.is_empty() {
                return None;
            }
            match self.field().context("a response is no protobuf").transpose() {
                None => {}
                some => return some,
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// The next field; `None` where it is not length-delimited.
    fn field(&mut self) -> Result<Option<(u64, &'a [u8])>> {
        let key = self.varint()?;
        let len = match key & 7 {
            0 => {
                self.varint()?;
                return Ok(None);
            }
            1 => 8,
            2 => usize::try_from(self.varint()?)?,
            5 => 4,
            other => bail!("wire type {other}"),
        };
        let (payload, rest) = self.0.split_at_checked(len).context("a field is cut short")?;
        self.0 = rest;
        Ok((key & 7 == 2).then_some((key >> 3, payload)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().context("a number is cut short")?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number is too long")
    }
}

fn put(number: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut len = payload.len();
    while len >= 0x80 {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let subscribe = [String::from("a"), "b".repeat(300)];
        let written =
            Request { node: Some("me"), type_url: CLUSTER, subscribe: &subscribe, nonce: "7" }.write();
        let len = u32::from_be_bytes(written[1..5].try_into().unwrap());
        assert_eq!(written.len(), 5 + len as usize);
        let fields: Vec<_> = Fields(&written[5..]).map(Result::unwrap).collect();
        assert_eq!(fields.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 3, 6]);
        assert_eq!(fields[3].1, "b".repeat(300).as_bytes());
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        for message in [&[0x12, 5, 0][..], &[0x12, 0x80], &[0x80], &[0x0b]] {
            assert!(Response::read(message).is_err(), "{message:?}");
        }
    }
}
