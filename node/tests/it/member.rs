//! A WebSocket client, by hand: what it says and what it is told, message by message.

use std::io::{Read, Write};
use std::net::TcpStream;

use pinwire_protocol::document::ywebsocket;
use pinwire_protocol::ws::{self, Decoder, Event, Frame, Limits, Opcode, Role, Scratch};

use crate::rig::{PATIENCE, Serving};

/// A client of the document `d`.
pub struct Member {
    stream: TcpStream,
    decoder: Decoder,
    is_open: bool,
}

/// Something that a client is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Message(Vec<u8>),
    Close(u16, String),
}

impl Member {
    /// Asks for the upgrade, and does not wait for the answer.
    pub fn open(node: &Serving, token: &str) -> Self {
        let url = node.ready["regions"][0]["ws_url"].as_str().unwrap();
        let mut stream = TcpStream::connect(url.strip_prefix("ws://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET /d?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        Self { stream, decoder: Decoder::new(Role::Client, false), is_open: false }
    }

    /// Over a socket on which the upgrade was asked for.
    pub fn from(stream: TcpStream) -> Self {
        Self { stream, decoder: Decoder::new(Role::Client, false), is_open: false }
    }

    /// Its handshake was read already.
    pub fn is_upgraded(&mut self) {
        self.is_open = true;
    }

    /// A y-websocket client that asks for everything.
    pub fn join(node: &Serving, token: &str) -> Self {
        let mut member = Self::open(node, token);
        member.say(|out| ywebsocket::append_sync_step1(out, &[0]));
        member
    }

    pub fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let (mut payload, mut bytes) = (Vec::new(), Vec::new());
        write(&mut payload);
        ws::append_frame(&mut bytes, Frame::new(Opcode::Binary).masked([1, 2, 3, 4]), &payload);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Waits for the next message, or a close frame.
    pub fn told(&mut self) -> Told {
        let (mut byte, mut scratch) = ([0], Scratch::new());
        if !std::mem::replace(&mut self.is_open, true) {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                self.stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        }
        loop {
            self.stream.read_exact(&mut byte).unwrap();
            let decoded = self.decoder.decode(&mut byte, &Limits::DEFAULT, &mut scratch).unwrap();
            match decoded.event {
                Some(Event::Message { payload, .. }) => return Told::Message(payload.to_vec()),
                Some(Event::Close { code, reason }) => return Told::Close(code.unwrap(), reason.to_owned()),
                Some(Event::Ping(payload)) => {
                    let mut pong = Vec::new();
                    ws::append_pong(&mut pong, payload, Some([1, 2, 3, 4]));
                    self.stream.write_all(&pong).unwrap();
                }
                _ => {}
            }
        }
    }

    /// Waits for a message that is wanted; a close frame is an error.
    pub fn until(&mut self, is_wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>, (u16, String)> {
        loop {
            match self.told() {
                Told::Message(payload) if is_wanted(&payload) => return Ok(payload),
                Told::Message(_) => {}
                Told::Close(code, reason) => return Err((code, reason)),
            }
        }
    }

    /// Waits for the end of the connection; the close frame before it, if one comes.
    pub fn cut(&mut self) -> Option<u16> {
        let (mut bytes, mut scratch) = (Vec::new(), Scratch::new());
        // A reset is an end, too.
        let _ = self.stream.read_to_end(&mut bytes);
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            let decoded = self.decoder.decode(rest, &Limits::DEFAULT, &mut scratch).unwrap();
            if let Some(Event::Close { code, .. }) = decoded.event {
                return code;
            }
            let consumed = decoded.consumed;
            rest = &mut rest[consumed..];
        }
        None
    }

    /// Waits for the end.
    pub fn end(&mut self) -> (u16, String) {
        self.until(|_| false).unwrap_err()
    }
}

/// What becomes of a y-websocket client with this token.
pub fn join(node: &Serving, token: &str) -> Result<(), (u16, String)> {
    Member::join(node, token).until(|_| true).map(drop)
}
