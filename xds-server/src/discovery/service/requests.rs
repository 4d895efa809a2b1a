//! A stream's incoming bytes: gRPC messages cut out of HTTP body frames, and decoded.
//!
//! A message that came in one frame, as nearly all do, is decoded where it lies. Nothing is kept between two messages, so
//! that an idle stream holds no buffer. Not here: compression, which nobody is offered.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use hyper::body::Body as _;
use prost::Message;
use tonic::Status;

use crate::discovery::session::{Flavour, Request};

/// A message's prefix: a flag for compression, and its length in four bytes.
const PREFIX: usize = 5;

pub(super) struct Requests {
    body: Body,
    flavour: Flavour,
    /// Bytes of the largest message that is taken.
    limit: usize,
    /// What came last, but for what was taken of it.
    frame: Bytes,
    /// The beginning of a message that goes on in a later frame.
    partial: BytesMut,
}

impl Requests {
    pub fn new(body: Body, flavour: Flavour, limit: usize) -> Requests {
        Requests { body, flavour, limit, frame: Bytes::new(), partial: BytesMut::new() }
    }

    /// The next request; `None` when the peer has no more to say, or is gone. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Request>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return self.decode(message).map(Some);
            }
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.frame = data,
                    Err(_trailers) => return Ok(None),
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "peer gone");
                    return Ok(None);
                }
                None if self.partial.is_empty() => return Ok(None),
                None => return Err(Status::internal("the stream ended within a message")),
            }
        }
    }

    /// One whole message and its prefix out of what came, if it is there.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        if self.partial.is_empty()
            && let Some(len) = self.message_len(&self.frame)?
            && len <= self.frame.len()
        {
            return Ok(Some(self.frame.split_to(len)));
        }
        loop {
            let known = self.message_len(&self.partial)?;
            let missing = known.unwrap_or(PREFIX) - self.partial.len();
            let part = self.frame.split_to(missing.min(self.frame.len()));
            self.partial.extend_from_slice(&part);
            if part.len() < missing {
                // An empty slice would hold the connection's buffer.
                self.frame = Bytes::new();
                return Ok(None);
            }
            if known.is_some() {
                return Ok(Some(std::mem::take(&mut self.partial).freeze()));
            }
        }
    }

    /// Bytes of the message that begins here and of its prefix, once that is there.
    fn message_len(&self, bytes: &[u8]) -> Result<Option<usize>, Status> {
        let Some(&[compressed, a, b, c, d]) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
        if compressed != 0 {
            return Err(Status::internal("the message is compressed, and no compression was agreed on"));
        }
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > self.limit {
            return Err(Status::out_of_range(format!(
                "the request has {len} bytes, and at most {} are taken",
                self.limit
            )));
        }
        Ok(Some(PREFIX + len))
    }

    fn decode(&self, message: Bytes) -> Result<Request, Status> {
        let message = message.slice(PREFIX..);
        let decoded = match self.flavour {
            Flavour::StateOfTheWorld => DiscoveryRequest::decode(message).map(Request::StateOfTheWorld),
            Flavour::Delta => DeltaDiscoveryRequest::decode(message).map(Request::Delta),
        };
        decoded.map_err(|error| Status::invalid_argument(format!("not a discovery request: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100;

    fn message(type_url: &str) -> Vec<u8> {
        let body = DeltaDiscoveryRequest { type_url: type_url.into(), ..Default::default() }.encode_to_vec();
        let len = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[0], &len[..], &body].concat()
    }

    /// All type URLs that come out of these frames, or why they do not.
    async fn read(frames: Vec<Vec<u8>>) -> Result<Vec<String>, Status> {
        let frames = frames.into_iter().map(|frame| Ok::<_, std::io::Error>(Bytes::from(frame)));
        let body = Body::from_stream(tokio_stream::iter(frames));
        let mut requests = Requests::new(body, Flavour::Delta, LIMIT);
        let mut seen = Vec::new();
        while let Some(request) = requests.next().await? {
            let Request::Delta(request) = request else { panic!("another flavour") };
            seen.push(request.type_url);
        }
        assert!(requests.frame.is_empty() && requests.partial.capacity() == 0, "something is kept");
        Ok(seen)
    }

    #[tokio::test]
    async fn requests_are_whole_however_they_are_cut() {
        let wire = [message("one"), message(""), message("three")].concat();
        for len in 1..=wire.len() {
            let frames = wire.chunks(len).map(<[u8]>::to_vec).collect();
            assert_eq!(read(frames).await.unwrap(), ["one", "", "three"], "frames of {len}");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_ends_the_stream_with_its_reason() {
        for (wire, code) in [
            (message(&"x".repeat(LIMIT)), tonic::Code::OutOfRange),
            (vec![1, 0, 0, 0, 0], tonic::Code::Internal),
            (vec![0, 0, 0, 0, 1, 0xff], tonic::Code::InvalidArgument),
            (message("cut")[..6].to_vec(), tonic::Code::Internal),
        ] {
            assert_eq!(read(vec![wire.clone()]).await.unwrap_err().code(), code, "{wire:?}");
        }
    }
}
