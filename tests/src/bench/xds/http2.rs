//! The client's half of HTTP/2, as far as long gRPC streams on loopback need it.
//!
//! An HTTP library would cost as much as the servers that are measured. This one opens all windows once, never reads a
//! header (a server's stream that ends is an error here), and keeps to the server's windows when it sends.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use anyhow::{Result, bail};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// END_STREAM on DATA and HEADERS, ACK on SETTINGS and PING.
const FLAG: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATH: &[u8] = b"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const DEFAULT_WINDOW: i64 = 65_535;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
const LARGEST_FRAME: usize = 16 << 10;
const FRAME_HEADER: usize = 9;

/// One connection's protocol state: bytes in and out, messages of its streams.
#[derive(Debug)]
pub(super) struct Connection {
    /// Bytes to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    header: Vec<u8>,
    /// The frame being read: its kind, flags, stream, and bytes still to come.
    frame: Option<(u8, u8, u32, usize)>,
    /// Payload of a frame that is looked at as a whole.
    payload: Vec<u8>,
    streams: Vec<Stream>,
    window: i64,
    initial_window: i64,
}

#[derive(Debug, Default)]
struct Stream {
    window: i64,
    /// Messages that the windows have not let out, the first of them from an offset.
    waiting: VecDeque<Vec<u8>>,
    offset: usize,
    /// The message being read.
    message: Vec<u8>,
}

impl Connection {
    /// Opens `streams` delta ADS streams.
    pub(super) fn new(authority: &str, streams: usize) -> Self {
        let mut out = PREFACE.to_vec();
        frame(SETTINGS, 0, 0, 6, &mut out);
        out.extend(INITIAL_WINDOW_SIZE.to_be_bytes());
        out.extend(LARGEST_WINDOW.to_be_bytes());
        frame(WINDOW_UPDATE, 0, 0, 4, &mut out);
        out.extend((LARGEST_WINDOW - DEFAULT_WINDOW as u32).to_be_bytes());
        let headers = headers(authority);
        for stream in 0..streams {
            frame(HEADERS, END_HEADERS, id(stream), headers.len(), &mut out);
            out.extend(&headers);
        }
        let stream = || Stream { window: DEFAULT_WINDOW, ..Stream::default() };
        Self {
            out,
            written: 0,
            header: Vec::with_capacity(FRAME_HEADER),
            frame: None,
            payload: Vec::new(),
            streams: (0..streams).map(|_| stream()).collect(),
            window: DEFAULT_WINDOW,
            initial_window: DEFAULT_WINDOW,
        }
    }

    /// Queues a gRPC message, its prefix included.
    pub(super) fn send(&mut self, stream: usize, message: Vec<u8>) {
        self.streams[stream].waiting.push_back(message);
        self.flush(stream);
    }

    /// What is to be written now.
    pub(super) fn pending(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// Takes note that so much of it was written.
    pub(super) fn advance(&mut self, written: usize) {
        self.written += written;
        if self.written == self.out.len() {
            (self.out, self.written) = (Vec::new(), 0);
        }
    }

    /// Takes what was read. Each whole message is given to `on_message`, with its stream, and what that returns is sent.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        mut on_message: impl FnMut(usize, &[u8]) -> Result<Vec<Vec<u8>>>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            let Some((kind, flags, id, left)) = self.frame else {
                let (head, rest) = bytes.split_at(bytes.len().min(FRAME_HEADER - self.header.len()));
                self.header.extend(head);
                bytes = rest;
                if let &[a, b, c, kind, flags, s, t, u, v] = &self.header[..] {
                    let left = u32::from_be_bytes([0, a, b, c]) as usize;
                    let id = u32::from_be_bytes([s, t, u, v]) & LARGEST_WINDOW;
                    self.frame = Some((kind, flags, id, left));
                    self.header.clear();
                    if left == 0 {
                        self.end_frame()?;
                    }
                }
                continue;
            };
            let (part, rest) = bytes.split_at(bytes.len().min(left));
            bytes = rest;
            self.frame = Some((kind, flags, id, left - part.len()));
            if kind == DATA {
                self.data(id, part, &mut on_message)?;
            } else {
                self.payload.extend(part);
            }
            if left == part.len() {
                self.end_frame()?;
            }
        }
        Ok(())
    }

    fn data(
        &mut self,
        id: u32,
        mut part: &[u8],
        on_message: &mut impl FnMut(usize, &[u8]) -> Result<Vec<Vec<u8>>>,
    ) -> Result<()> {
        let index = index(id);
        while !part.is_empty() {
            let Some(stream) = self.streams.get_mut(index) else { bail!("data on unknown stream {id}") };
            let replies = match take(&mut stream.message, &mut part) {
                ControlFlow::Continue(()) => break,
                ControlFlow::Break(None) => on_message(index, &std::mem::take(&mut stream.message)[5..])?,
                ControlFlow::Break(Some(message)) => on_message(index, message)?,
            };
            replies.into_iter().for_each(|reply| self.send(index, reply));
        }
        Ok(())
    }

    fn end_frame(&mut self) -> Result<()> {
        let Some((kind, flags, id, _)) = self.frame.take() else { return Ok(()) };
        let payload = std::mem::take(&mut self.payload);
        match kind {
            DATA | HEADERS if flags & FLAG != 0 => {
                bail!("the server ended stream {id}: {}", String::from_utf8_lossy(&payload))
            }
            RST_STREAM => bail!("the server reset stream {id}: {payload:?}"),
            GOAWAY => bail!("the server goes away: {}", String::from_utf8_lossy(&payload)),
            SETTINGS if flags & FLAG == 0 => {
                for setting in payload.chunks_exact(6) {
                    if let [a, b, value @ ..] = setting
                        && u16::from_be_bytes([*a, *b]) == INITIAL_WINDOW_SIZE
                        && let Ok(value) = <[u8; 4]>::try_from(value)
                    {
                        let window = i64::from(u32::from_be_bytes(value));
                        let wider = window - std::mem::replace(&mut self.initial_window, window);
                        self.streams.iter_mut().for_each(|stream| stream.window += wider);
                    }
                }
                frame(SETTINGS, FLAG, 0, 0, &mut self.out);
                self.flush_all();
            }
            PING if flags & FLAG == 0 => {
                frame(PING, FLAG, 0, payload.len(), &mut self.out);
                self.out.extend(payload);
            }
            WINDOW_UPDATE => {
                let more = <[u8; 4]>::try_from(&payload[..]).map_or(0, u32::from_be_bytes);
                if id == 0 {
                    self.window += i64::from(more);
                    self.flush_all();
                } else if let Some(stream) = self.streams.get_mut(index(id)) {
                    stream.window += i64::from(more);
                    self.flush(index(id));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn flush_all(&mut self) {
        (0..self.streams.len()).for_each(|stream| self.flush(stream));
    }

    /// Moves what the windows allow from the stream's messages into DATA frames.
    fn flush(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        while let Some(message) = stream.waiting.front() {
            let left = message.len() - stream.offset;
            let room = usize::try_from(self.window.min(stream.window)).unwrap_or(0);
            let len = left.min(room).min(LARGEST_FRAME);
            if len == 0 {
                return;
            }
            frame(DATA, 0, id(index), len, &mut self.out);
            self.out.extend(&message[stream.offset..stream.offset + len]);
            self.window -= len as i64;
            stream.window -= len as i64;
            stream.offset += len;
            if len == left {
                stream.offset = 0;
                stream.waiting.pop_front();
            }
        }
    }
}

/// Takes one gRPC message out of what came: `Break` once it is whole, with its content where it came in one piece and
/// else with its prefix in `message`; `Continue` where more must come.
fn take<'a>(message: &mut Vec<u8>, part: &mut &'a [u8]) -> ControlFlow<Option<&'a [u8]>> {
    let whole = |bytes: &[u8]| {
        let len = bytes.get(1..5).and_then(|len| <[u8; 4]>::try_from(len).ok()).map(u32::from_be_bytes);
        len.map(|len| 5 + len as usize)
    };
    if message.is_empty()
        && let Some((bytes, rest)) = whole(part).and_then(|len| part.split_at_checked(len))
    {
        *part = rest;
        return ControlFlow::Break(Some(&bytes[5..]));
    }
    let prefix = part.split_at(part.len().min(5usize.saturating_sub(message.len())));
    message.extend(prefix.0);
    *part = prefix.1;
    let Some(len) = whole(message) else { return ControlFlow::Continue(()) };
    let (bytes, rest) = part.split_at(part.len().min(len - message.len()));
    message.reserve_exact(len - message.len());
    message.extend(bytes);
    *part = rest;
    if message.len() == len { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
}

fn headers(authority: &str) -> Vec<u8> {
    // HPACK without its tables: POST and http are of the static one, the others literal.
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &[u8]| {
        block.extend(name);
        block.push(value.len() as u8);
        block.extend(value);
    };
    literal(&[0x04], PATH);
    literal(&[0x01], authority.as_bytes());
    literal(&[0x0f, 0x10], b"application/grpc");
    literal(b"\0\x02te", b"trailers");
    block
}

fn frame(kind: u8, flags: u8, stream: u32, len: usize, out: &mut Vec<u8>) {
    out.extend(&(len as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
}

/// Clients' streams have odd numbers.
fn id(index: usize) -> u32 {
    index as u32 * 2 + 1
}

fn index(id: u32) -> usize {
    (id / 2) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(stream: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(DATA, 0, id(stream), bytes.len(), &mut out);
        out.extend(bytes);
        out
    }

    #[test]
    fn messages_are_whole_however_they_are_cut() {
        let messages = [&b"\0\0\0\0\x03one"[..], b"\0\0\0\0\0", b"\0\0\0\0\x03two"].concat();
        for frame_len in 1..=messages.len() {
            let wire: Vec<u8> = messages.chunks(frame_len).flat_map(|part| data(1, part)).collect();
            for read_len in 1..=wire.len() {
                let mut connection = Connection::new("test", 2);
                let mut seen = Vec::new();
                for read in wire.chunks(read_len) {
                    let note = |stream, message: &[u8]| {
                        seen.push((stream, String::from_utf8_lossy(message).into_owned()));
                        Ok(Vec::new())
                    };
                    connection.receive(read, note).unwrap();
                }
                let expected = [(1, "one".into()), (1, String::new()), (1, "two".into())];
                assert_eq!(seen, expected, "frames of {frame_len}, reads of {read_len}");
            }
        }
    }

    #[test]
    fn nothing_is_sent_past_a_window_until_it_widens() {
        let mut connection = Connection::new("test", 1);
        connection.advance(connection.pending().len());
        connection.send(0, vec![7; 100_000]);
        let sent = |connection: &mut Connection| {
            let mut wire = connection.pending().to_vec();
            connection.advance(wire.len());
            let mut sent = 0;
            while !wire.is_empty() {
                let len = u32::from_be_bytes([0, wire[0], wire[1], wire[2]]) as usize;
                sent += if wire[3] == DATA { len } else { 0 };
                wire.drain(..FRAME_HEADER + len);
            }
            sent
        };
        assert_eq!(sent(&mut connection), 65_535);
        for stream in [0, 1] {
            let mut update = Vec::new();
            frame(WINDOW_UPDATE, 0, stream, 4, &mut update);
            update.extend(1_000_000u32.to_be_bytes());
            connection.receive(&update, |_, _| Ok(Vec::new())).unwrap();
        }
        assert_eq!(sent(&mut connection), 100_000 - 65_535);
    }

    #[test]
    fn a_stream_that_the_server_ends_is_an_error() {
        let mut connection = Connection::new("test", 1);
        let mut trailers = Vec::new();
        frame(HEADERS, FLAG | END_HEADERS, 1, 0, &mut trailers);
        assert!(connection.receive(&trailers, |_, _| Ok(Vec::new())).is_err());
    }
}
