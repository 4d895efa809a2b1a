//! As much of gRPC over HTTP/2 as a filter needs that has no client for it: the frame of a message, and the statuses.

/// `grpc-status` that means success.
const OK: &[u8] = b"0";

/// The body of a unary request: a byte that is 0, as nothing is compressed, four of the length, and the message. `None`
/// where it is too long for that.
pub fn frame(message: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(message.len()).ok()?;
    Some([[0].as_slice(), &length.to_be_bytes(), message].concat())
}

/// The message of a unary response; `None` where the call failed, or this is no such response. Its trailers may still say
/// that it failed: a message is told all the same, as Envoy tells it to filters in Wasm.
pub fn message<'a>(http_status: &[u8], grpc_status: Option<&[u8]>, body: &'a [u8]) -> Option<&'a [u8]> {
    let is_fine = http_status == b"200" && grpc_status.is_none_or(|status| status == OK);
    let (frame, rest) = body.split_first_chunk::<5>().filter(|_| is_fine)?;
    let [0, length @ ..] = *frame else { return None };
    rest.get(..u32::from_be_bytes(length) as usize)
}

/// Whether a request with this `content-type` is a gRPC request.
pub fn is_request(content_type: &[u8]) -> bool {
    matches!(content_type.strip_prefix(b"application/grpc"), Some([] | [b'+', ..]))
}

/// The status that a gRPC client is told where an HTTP client would be told this one (gRPC's
/// `doc/http-grpc-status-mapping.md`, which Envoy follows).
pub fn status_of(http_status: u32) -> &'static str {
    match http_status {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502..=504 => "14",
        _ => "2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_taken_out_of_its_frame() {
        let body = frame(b"hello").unwrap();
        assert_eq!(body, b"\0\0\0\0\x05hello");
        assert_eq!(message(b"200", None, &body), Some(b"hello".as_slice()));
        assert_eq!(message(b"200", Some(b"0"), &frame(b"").unwrap()), Some(b"".as_slice()));
        for (http, grpc, body) in [
            (b"503", None, body.as_slice()),
            (b"200", Some(b"14".as_slice()), &body),
            (b"200", None, b""),
            (b"200", None, b"\0\0\0\0\x06hello"),
            (b"200", None, b"\x01\0\0\0\x05hello"),
        ] {
            assert_eq!(message(http, grpc, body), None, "{body:?}");
        }
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (content_type, is_grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_request(content_type.as_bytes()), is_grpc, "{content_type}");
        }
        assert_eq!([401, 403, 429, 503, 418].map(status_of), ["16", "7", "14", "14", "2"]);
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(message) = message(b"200", None, &body) {
                prop_assert!(message.len() <= body.len() - 5);
            }
        }
    }
}
