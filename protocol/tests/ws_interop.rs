//! Our codec against `tungstenite`, in both roles and both directions.

use std::io::{self, Cursor, Read, Write};

use pinwire_protocol::ws::handshake::{
    Accepted, ClientRequest, Expected, Parsed, ParsedResponse, append_request, append_response,
    parse_request, parse_response,
};
use pinwire_protocol::ws::{
    Decoder, Event, Frame, Kind, Limits, Opcode, Role, Scratch, append_close, append_frame, append_ping,
};
use proptest::prelude::*;
use tungstenite::protocol::Role as TheirRole;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame as TheirFrame};
use tungstenite::{Message, WebSocket};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Makes what is to be read out of all that was written, once that is complete.
type Server = fn(&[u8]) -> Option<Vec<u8>>;

/// A connection without a network: what is written is kept, what is read was put there, or is answered by
/// `server`.
#[derive(Default)]
struct Pipe {
    incoming: Cursor<Vec<u8>>,
    written: Vec<u8>,
    server: Option<Server>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(response) = self.server.and_then(|server| server(&self.written)) {
            self.server = None;
            self.incoming = Cursor::new(response);
        }
        match self.incoming.read(buf)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A message, with the places where it is cut into fragments.
#[derive(Clone, Debug)]
struct Cut {
    kind: Kind,
    payload: Vec<u8>,
    fragments: usize,
    mask: [u8; 4],
    ping_between: bool,
}

impl Cut {
    fn parts(&self) -> impl Iterator<Item = (bool, bool, &[u8])> {
        let (len, count) = (self.payload.len(), self.fragments);
        (0..count).map(move |index| {
            let part = &self.payload[len * index / count..len * (index + 1) / count];
            (index == 0, index + 1 == count, part)
        })
    }

    fn opcode(&self, first: bool) -> Opcode {
        if first { self.kind.into() } else { Opcode::Continuation }
    }
}

fn cut() -> impl Strategy<Value = Cut> {
    let payload = prop_oneof![
        "\\PC{0,200}".prop_map(|text| (Kind::Text, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..400).prop_map(|bytes| (Kind::Binary, bytes)),
        // Around the lengths at which the header grows.
        (prop_oneof![120usize..130, 65_530usize..65_540], any::<u8>())
            .prop_map(|(len, byte)| (Kind::Binary, vec![byte; len])),
    ];
    (payload, 1usize..5, any::<[u8; 4]>(), any::<bool>()).prop_map(
        |((kind, payload), fragments, mask, ping_between)| Cut {
            kind,
            payload,
            fragments,
            mask,
            ping_between,
        },
    )
}

fn expected(cuts: &[Cut], close: (u16, &str)) -> Heard {
    let messages = cuts.iter().map(|cut| (cut.kind, cut.payload.clone())).collect();
    let pings = cuts.iter().filter(|cut| cut.ping_between).map(|cut| cut.fragments - 1).sum();
    Heard { messages, pings, close: Some((close.0, close.1.to_owned())) }
}

/// What came out of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    messages: Vec<(Kind, Vec<u8>)>,
    pings: usize,
    close: Option<(u16, String)>,
}

/// What tungstenite makes of bytes that we encoded as `role`.
fn read_by_tungstenite(role: Role, bytes: Vec<u8>) -> Heard {
    let their_role = match role {
        Role::Server => TheirRole::Client,
        Role::Client => TheirRole::Server,
    };
    let pipe = Pipe { incoming: Cursor::new(bytes), ..Pipe::default() };
    let mut socket = WebSocket::from_raw_socket(pipe, their_role, None);
    let mut heard = Heard::default();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => heard.messages.push((Kind::Text, text.as_bytes().to_vec())),
            Ok(Message::Binary(bytes)) => heard.messages.push((Kind::Binary, bytes.to_vec())),
            Ok(Message::Ping(_)) => heard.pings += 1,
            Ok(Message::Close(frame)) => {
                heard.close = frame.map(|frame| (u16::from(frame.code), frame.reason.as_str().to_owned()));
                return heard;
            }
            Ok(other) => panic!("unexpected {other:?}"),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return heard;
            }
            Err(error) => panic!("tungstenite refused what we sent: {error}"),
        }
    }
}

/// What we make, as `role`, of bytes that tungstenite encoded, in reads of `size`.
fn read_by_us(role: Role, bytes: &[u8], size: usize) -> Heard {
    let mut decoder = Decoder::new(role, false);
    let mut scratch = Scratch::new();
    let mut heard = Heard::default();
    for read in bytes.to_vec().chunks_mut(size) {
        let mut rest = read;
        while !rest.is_empty() {
            let decoded = decoder.decode(rest, &Limits::DEFAULT, &mut scratch).expect("valid frames");
            let consumed = decoded.consumed;
            match decoded.event {
                Some(Event::Message { kind, payload }) => heard.messages.push((kind, payload.to_vec())),
                Some(Event::Ping(_)) => heard.pings += 1,
                Some(Event::Close { code, reason }) => {
                    heard.close = code.map(|code| (code, reason.to_owned()));
                }
                Some(Event::Pong(_)) => panic!("no pong was sent"),
                None => {}
            }
            rest = &mut rest[consumed..];
        }
    }
    heard
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

proptest! {
    #[test]
    fn tungstenite_decodes_what_we_encode(role in role(), cuts in prop::collection::vec(cut(), 0..6)) {
        let mut out = Vec::new();
        let key = |mask| (role == Role::Client).then_some(mask);
        for cut in &cuts {
            for (first, fin, part) in cut.parts() {
                let frame = Frame { opcode: cut.opcode(first), fin, rsv1: false, mask: key(cut.mask) };
                append_frame(&mut out, frame, part);
                if cut.ping_between && !fin {
                    append_ping(&mut out, b"ping", key(cut.mask));
                }
            }
        }
        append_close(&mut out, 4009u16, "REDIRECT:wss://eu.example.net", key([1, 2, 3, 4]));
        let heard = read_by_tungstenite(role, out);
        prop_assert_eq!(heard, expected(&cuts, (4009, "REDIRECT:wss://eu.example.net")));
    }

    #[test]
    fn we_decode_what_tungstenite_encodes(
        role in role(),
        cuts in prop::collection::vec(cut(), 0..6),
        size in prop_oneof![Just(1), 1usize..50, Just(usize::MAX)],
    ) {
        let their_role = match role {
            Role::Server => TheirRole::Client,
            Role::Client => TheirRole::Server,
        };
        let mut socket = WebSocket::from_raw_socket(Pipe::default(), their_role, None);
        for cut in &cuts {
            for (first, fin, part) in cut.parts() {
                let data = match (first, cut.kind) {
                    (false, _) => Data::Continue,
                    (true, Kind::Text) => Data::Text,
                    (true, Kind::Binary) => Data::Binary,
                };
                let frame = TheirFrame::message(part.to_vec(), OpCode::Data(data), fin);
                socket.send(Message::Frame(frame)).unwrap();
                if cut.ping_between && !fin {
                    socket.send(Message::Ping(b"ping".to_vec().into())).unwrap();
                }
            }
        }
        socket.close(Some(CloseFrame { code: 1001.into(), reason: "bye".into() })).unwrap();
        let heard = read_by_us(role, &socket.get_ref().written, size);
        prop_assert_eq!(heard, expected(&cuts, (1001, "bye")));
    }
}

#[test]
fn tungstenite_connects_to_us() {
    let server: Server = |written| match parse_request(written).expect("a valid request") {
        Parsed::Partial => None,
        Parsed::Complete { request, .. } => {
            assert!(request.is_upgrade());
            assert_eq!(request.target, "/my-document?token=abc");
            let mut out = Vec::new();
            append_response(&mut out, request.key?, None, None);
            append_frame(&mut out, Frame::new(Opcode::Text), b"first");
            Some(out)
        }
    };
    let pipe = Pipe { server: Some(server), ..Pipe::default() };
    let (mut socket, response) =
        tungstenite::client("ws://example.net/my-document?token=abc", pipe).expect("a valid response");
    assert_eq!(response.status(), 101);
    assert_eq!(socket.read().unwrap(), Message::text("first"));
}

#[test]
fn we_connect_to_tungstenite() {
    let request = ClientRequest {
        host: "example.net",
        target: "/my-document",
        key: KEY,
        protocols: &["access_token", "abc"],
        origin: Some("https://app.example.com"),
        headers: &[("X-Forwarded-For", "10.0.0.1")],
        deflate: true,
    };
    let mut head = Vec::new();
    append_request(&mut head, &request).unwrap();
    let pipe = Pipe { incoming: Cursor::new(head), ..Pipe::default() };
    let socket = tungstenite::accept(pipe).expect("a valid request");
    let written = &socket.get_ref().written;
    let expected = Expected { key: KEY, protocols: request.protocols, deflate: true };
    // It chooses no subprotocol and knows no extension.
    let accepted = Accepted { subprotocol: None, deflate: None };
    assert_eq!(
        parse_response(written, &expected),
        Ok(ParsedResponse::Complete { head_len: written.len(), accepted })
    );
}
