//! A stream's outgoing bytes: gRPC messages cut from shared frames, as HTTP body frames.
//!
//! HTTP/2 asks for the next frame only when the peer has room for it, so what a silent peer costs is one frame here and
//! the few responses its task made ahead. Small resources are copied together, since each body frame becomes at least
//! one DATA frame.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::Frame;
use tokio::sync::mpsc;
use tonic::Status;

use crate::discovery::session::{Cursor, Response};

/// What is copied together, in bytes: HTTP/2's default frame size, and not a byte more, which would be a frame of its
/// own and a write of its own.
const FRAME: usize = 16 << 10;

/// A response, or why there will be no more; the end of the channel is status OK.
pub(super) type Outgoing = Result<Response, Status>;

/// The HTTP response that carries what comes out of `responses`.
pub(super) fn response(responses: mpsc::Receiver<Outgoing>) -> axum::response::Response {
    let messages = Messages { responses, current: None, ended: false };
    let mut response = axum::response::Response::new(Body::new(messages));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

struct Messages {
    responses: mpsc::Receiver<Outgoing>,
    current: Option<(Response, Cursor)>,
    ended: bool,
}

impl Messages {
    /// The next bytes of the current response.
    fn fill(&mut self, mut buf: BytesMut) -> Bytes {
        if let Some((response, cursor)) = &mut self.current
            && !response.fill(cursor, &mut buf, FRAME)
        {
            self.current = None;
        }
        buf.freeze()
    }

    /// The gRPC length prefix and the message's own fields.
    fn begin(&mut self, response: Response) -> Result<BytesMut, Status> {
        let header = response.header();
        let len = header.len() + response.payload_len();
        let Ok(len) = u32::try_from(len) else {
            return Err(Status::out_of_range("the response does not fit into a gRPC message"));
        };
        let mut buf = BytesMut::with_capacity(FRAME.min(len as usize) + header.len() + 5);
        buf.put_u8(0);
        buf.put_u32(len);
        buf.put_slice(&header);
        self.current = Some((response, Cursor::default()));
        Ok(buf)
    }

    fn end(&mut self, status: Status) -> Frame<Bytes> {
        self.ended = true;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("13"));
        }
        Frame::trailers(trailers)
    }
}

impl hyper::body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.current.is_some() {
            let bytes = self.fill(BytesMut::with_capacity(FRAME));
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        let begun = match std::task::ready!(self.responses.poll_recv(cx)) {
            Some(Ok(response)) => self.begin(response),
            Some(Err(status)) => Err(status),
            None => Err(Status::ok("")),
        };
        Poll::Ready(Some(Ok(match begun {
            Ok(buf) => Frame::data(self.fill(buf)),
            Err(status) => self.end(status),
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
