//! Answers to callouts. The host tells the root context, whoever asked; the SDK finds the stream by the token.

use super::Vm;
use crate::error::Error;
use crate::headers::HeaderMap;

/// What happens on a gRPC call.
pub(crate) enum GrpcEvent {
    InitialMetadata(HeaderMap),
    Message(Vec<u8>),
    TrailingMetadata(HeaderMap),
    Close(u32, String),
}

impl Vm {
    /// Answers an HTTP callout; `None` is a reset, which has no headers at all.
    pub fn answer_http(
        &mut self,
        token: u32,
        answer: Option<(HeaderMap, Vec<u8>, HeaderMap)>,
    ) -> Result<(), Error> {
        let root = self.state().root;
        let state = self.state_mut();
        state.http_calls.remove(&token).ok_or(Error::NotPending)?;
        let (headers, body, trailers) = answer
            .as_ref()
            .map_or((0, 0, 0), |(headers, body, trailers)| (headers.len(), body.len(), trailers.len()));
        if answer.is_none() {
            state.received.status = (11, "reset".to_string());
        }
        state.received.http = answer;
        if let Some(function) = self.exports.on_http_call_response.clone() {
            let sizes = (root, token, headers as u32, body as u32, trailers as u32);
            self.enter("proxy_on_http_call_response", root, &function, sizes);
        }
        self.state_mut().received = Default::default();
        Ok(())
    }

    /// Tells the module of something on a gRPC call or stream.
    pub fn answer_grpc(&mut self, token: u32, event: GrpcEvent) -> Result<(), Error> {
        let root = self.state().root;
        let state = self.state_mut();
        let streaming = state.grpc_calls.get(&token).ok_or(Error::NotPending)?.streaming;
        let (name, function, size) = match event {
            GrpcEvent::InitialMetadata(map) => {
                let size = map.len() as u32;
                state.received.grpc_initial = Some(map);
                let function = self.exports.on_grpc_receive_initial_metadata.clone();
                ("proxy_on_grpc_receive_initial_metadata", function, size)
            }
            GrpcEvent::Message(message) => {
                let size = message.len() as u32;
                state.received.grpc_message = Some(message);
                if !streaming {
                    state.grpc_calls.remove(&token);
                }
                ("proxy_on_grpc_receive", self.exports.on_grpc_receive.clone(), size)
            }
            GrpcEvent::TrailingMetadata(map) => {
                let size = map.len() as u32;
                state.received.grpc_trailing = Some(map);
                let function = self.exports.on_grpc_receive_trailing_metadata.clone();
                ("proxy_on_grpc_receive_trailing_metadata", function, size)
            }
            GrpcEvent::Close(status, message) => {
                state.received.status = (status, message);
                state.grpc_calls.remove(&token);
                ("proxy_on_grpc_close", self.exports.on_grpc_close.clone(), status)
            }
        };
        if let Some(function) = function {
            self.enter(name, root, &function, (root, token, size));
        }
        self.state_mut().received = Default::default();
        Ok(())
    }

    /// Gives callouts whose time is up what Envoy gives them: 504, or `UNAVAILABLE` on gRPC.
    pub(super) fn expire_callouts(&mut self, now: u64) {
        let due = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now);
        let state = self.state();
        let http: Vec<u32> =
            state.http_calls.iter().filter(|(_, call)| due(call.deadline)).map(|(token, _)| *token).collect();
        let grpc: Vec<u32> =
            state.grpc_calls.iter().filter(|(_, call)| due(call.deadline)).map(|(token, _)| *token).collect();
        for token in http {
            let _ = self.answer_http(token, Some(synthetic(504, "upstream request timeout")));
        }
        for token in grpc {
            let close = GrpcEvent::Close(14, "upstream request timeout".to_string());
            let _ = self.answer_grpc(token, close);
        }
    }
}

/// A response that Envoy makes up when there is none.
pub(crate) fn synthetic(status: u16, body: &str) -> (HeaderMap, Vec<u8>, HeaderMap) {
    let headers = HeaderMap::from([
        (":status", status.to_string()),
        ("content-length", body.len().to_string()),
        ("content-type", "text/plain".to_string()),
    ]);
    (headers, body.as_bytes().to_vec(), HeaderMap::new())
}
