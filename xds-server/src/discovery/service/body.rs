//! A stream's outgoing bytes: gRPC messages cut from shared frames, as HTTP body frames.
//!
//! The body drives its stream: HTTP/2 asks for the next frame only when the peer has room for it, and only when all
//! responses are taken is the stream looked at for more. So what a silent peer costs is what one turn made, nothing has to
//! wake anything else, and the responses of one turn leave together. Small resources are copied together, since each body
//! frame becomes at least one DATA frame.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::Frame;
use tonic::Status;

use crate::discovery::session::{Cursor, Response};

/// What is copied together, in bytes: HTTP/2's default frame size, and not a byte more, which would be a frame of its
/// own and a write of its own.
const FRAME: usize = 16 << 10;

/// Where a stream puts its responses. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Outbox(Arc<Mutex<VecDeque<Response>>>);

impl Outbox {
    /// Hands responses over, and waits until the peer took all of them.
    pub async fn hand_over(&self, responses: Vec<Response>) {
        *self.lock() = responses.into();
        // Nothing has to wake this: the body looks again when it has sent what is here.
        poll_fn(|_| if self.lock().is_empty() { Poll::Ready(()) } else { Poll::Pending }).await
    }

    fn take(&self) -> Option<Response> {
        let mut responses = self.lock();
        let first = responses.pop_front();
        if responses.is_empty() {
            *responses = VecDeque::new();
        }
        first
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Response>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The HTTP response that carries what a stream puts into its outbox, and ends when it does.
pub(super) fn response<S>(stream: impl FnOnce(Outbox) -> S) -> axum::response::Response
where
    S: Future<Output = Result<(), Status>> + Send + 'static,
{
    let outbox = Outbox::default();
    let messages = Messages { stream: Some(Box::pin(stream(outbox.clone()))), outbox, current: None };
    let mut response = axum::response::Response::new(Body::new(messages));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

struct Messages<S> {
    /// `None` once it has ended.
    stream: Option<Pin<Box<S>>>,
    outbox: Outbox,
    current: Option<(Response, Cursor)>,
}

impl<S> Messages<S> {
    /// The next frame's bytes, of as many responses as there are; empty when there are no more.
    fn fill(&mut self) -> Result<Bytes, Status> {
        let mut buf = BytesMut::new();
        while let Some((response, cursor)) = self.next(&mut buf)? {
            if response.fill(cursor, &mut buf, FRAME) {
                break;
            }
            self.current = None;
        }
        Ok(buf.freeze())
    }

    /// The response that is being sent. A new one is begun with the gRPC length prefix and the message's own fields.
    fn next(&mut self, buf: &mut BytesMut) -> Result<Option<&mut (Response, Cursor)>, Status> {
        if self.current.is_some() {
            buf.reserve(FRAME);
        } else if let Some(response) = self.outbox.take() {
            let header = response.header();
            let len = header.len() + response.payload_len();
            let Ok(prefix) = u32::try_from(len) else {
                return Err(Status::out_of_range("the response does not fit into a gRPC message"));
            };
            buf.reserve((5 + len).min(FRAME.saturating_sub(buf.len()).max(5 + header.len())));
            buf.put_u8(0);
            buf.put_u32(prefix);
            buf.put_slice(&header);
            self.current = Some((response, Cursor::default()));
        }
        Ok(self.current.as_mut())
    }

    fn end(&mut self, status: Status) -> Frame<Bytes> {
        self.stream = None;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("13"));
        }
        Frame::trailers(trailers)
    }
}

impl<S: Future<Output = Result<(), Status>>> hyper::body::Body for Messages<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.stream.is_some() {
            match self.fill() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(status) => return Poll::Ready(Some(Ok(self.end(status)))),
            }
            let polled = self.stream.as_mut().map(|stream| stream.as_mut().poll(cx));
            match polled {
                Some(Poll::Ready(ended)) => {
                    let status = ended.err().unwrap_or_else(|| Status::ok(""));
                    return Poll::Ready(Some(Ok(self.end(status))));
                }
                _ if self.outbox.lock().is_empty() => return Poll::Pending,
                _ => {}
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_none()
    }
}
