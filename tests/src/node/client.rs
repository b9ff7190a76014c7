//! A client that says exactly what it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use pinwire_protocol::document::ywebsocket::{self, Message};
use pinwire_protocol::ws::{self, Decoder, Event, Frame, Limits, Opcode, Role, Scratch};

use super::http::upgrade_request;
use super::yjs::{announcement, step1};
use super::{PATIENCE, TestNode, token};

/// What came from the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A binary message.
    Message(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame: its code (1005 for none) and reason.
    Close(u16, String),
    /// End of the stream, or a reset.
    End,
}

/// The client's end of one TCP connection.
pub struct TestClient {
    stream: TcpStream,
    decoder: Decoder,
    scratch: Scratch,
    buffer: Vec<u8>,
    at: usize,
}

const MASK: [u8; 4] = [0x1d, 0xe2, 0x3b, 0x84];

impl TestClient {
    /// Connects, and says nothing.
    ///
    /// # Panics
    /// The node is not there.
    #[must_use]
    pub fn dial(node: &TestNode) -> Self {
        Self::dial_at(node.address())
    }

    /// Connects to a node wherever it runs.
    ///
    /// # Panics
    /// Nobody is there.
    #[must_use]
    pub fn dial_at(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the node listens"))
    }

    /// Connects with a small receive buffer, which a node fills soon.
    ///
    /// # Panics
    /// The node is not there.
    #[must_use]
    pub fn dial_narrow(node: &TestNode) -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect(&node.address().into()).expect("the node listens");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            decoder: Decoder::new(Role::Client, false),
            scratch: Scratch::new(),
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// Connects and upgrades, with a good token.
    ///
    /// # Panics
    /// The upgrade is refused.
    #[must_use]
    pub fn open(node: &TestNode, document: &str) -> Self {
        Self::dial(node).upgraded(&format!("/{document}?token={}", token()))
    }

    /// Upgrades.
    ///
    /// # Panics
    /// The upgrade is refused.
    #[must_use]
    pub fn upgraded(mut self, target: &str) -> Self {
        self.send(upgrade_request(target, "").as_bytes());
        assert_eq!(self.answer().status, 101);
        self
    }

    /// A member of a document in the y-websocket dialect: has sent step 1 and been answered.
    ///
    /// # Panics
    /// It is not answered.
    #[must_use]
    pub fn join(node: &TestNode, document: &str) -> Self {
        Self::open(node, document).joined()
    }

    /// Sends step 1 and awaits both answers.
    ///
    /// # Panics
    /// They do not come.
    #[must_use]
    pub fn joined(mut self) -> Self {
        self.message(&step1());
        while !matches!(ywebsocket::decode(&self.binary()), Ok(Message::SyncStep1 { .. })) {}
        self
    }

    /// The member is seen by others as `client`.
    pub fn announce(&mut self, client: u64, clock: u32) {
        self.message(&announcement(client, clock, "{}"));
    }

    /// This end's address.
    ///
    /// # Panics
    /// The socket has none.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// The node does not take them in time, or has closed.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the node reads");
    }

    /// Sends bytes as they are, unless the node has closed; says whether they were taken.
    ///
    /// # Panics
    /// The node neither reads nor closes.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if is_end(error.kind()) => false,
            Err(error) => panic!("the node neither reads nor closes: {error}"),
        }
    }

    /// Sends one binary message.
    pub fn message(&mut self, payload: &[u8]) {
        let mut out = Vec::new();
        Self::write_message(&mut out, payload);
        self.send(&out);
    }

    /// Appends one binary message as a client sends it.
    pub fn write_message(out: &mut Vec<u8>, payload: &[u8]) {
        ws::append_frame(out, Frame::new(Opcode::Binary).masked(MASK), payload);
    }

    /// Sends one frame, masked.
    pub fn frame(&mut self, frame: Frame, payload: &[u8]) {
        let mut out = Vec::new();
        ws::append_frame(&mut out, frame.masked(MASK), payload);
        self.send(&out);
    }

    /// Sends a close frame.
    pub fn close(&mut self, code: u16) {
        let mut out = Vec::new();
        ws::append_close(&mut out, code, "", Some(MASK));
        self.send(&out);
    }

    /// Says that nothing more follows.
    ///
    /// # Panics
    /// The socket is not connected.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("connected");
    }

    /// What comes next.
    ///
    /// # Panics
    /// Nothing comes in time, or something that breaks the protocol.
    pub fn receive(&mut self) -> Received {
        loop {
            while self.at < self.buffer.len() {
                let input = &mut self.buffer[self.at..];
                let limits = Limits { max_frame: 1 << 30, max_message: 1 << 30, max_fragments: 1 };
                let decoded = self.decoder.decode(input, &limits, &mut self.scratch).expect("a good frame");
                self.at += decoded.consumed;
                if let Some(event) = decoded.event {
                    return owned(&event);
                }
            }
            if !self.fill() {
                return Received::End;
            }
        }
    }

    /// The next binary message, whatever control frames come before it; pings are answered.
    ///
    /// # Panics
    /// The connection is closed instead.
    pub fn binary(&mut self) -> Vec<u8> {
        loop {
            match self.receive() {
                Received::Message(message) => return message,
                Received::Ping(payload) => self.frame(Frame::new(Opcode::Pong), &payload),
                Received::Pong(_) => {}
                end => panic!("closed: {end:?}"),
            }
        }
    }

    /// How the connection is closed, whatever messages come before: the close frame's code, or [`None`] without one. Answers it
    /// and waits for the end of the stream.
    pub fn closed(&mut self) -> Option<u16> {
        let mut code = None;
        loop {
            match self.receive() {
                Received::Close(with, _) => {
                    code = Some(with);
                    let mut answer = Vec::new();
                    ws::append_close(&mut answer, with, "", Some(MASK));
                    self.try_send(&answer);
                }
                Received::End => return code,
                _ => {}
            }
        }
    }

    /// The code and reason of the close frame, whatever messages come before.
    ///
    /// # Panics
    /// There is none.
    pub fn close_frame(&mut self) -> (u16, String) {
        loop {
            match self.receive() {
                Received::Close(code, reason) => return (code, reason),
                Received::End => panic!("ended without a close frame"),
                _ => {}
            }
        }
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    pub(super) fn take(&mut self, len: usize) -> Vec<u8> {
        let taken = self.buffer[self.at..self.at + len].to_vec();
        self.at += len;
        taken
    }

    /// Reads some bytes; false at the end of the stream.
    pub(super) fn fill(&mut self) -> bool {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let start = self.buffer.len();
        self.buffer.resize(start + (64 << 10), 0);
        let mut read = || self.stream.read(&mut self.buffer[start..]);
        let mut outcome = read();
        // Where a node of this process ends its rings the kernel interrupts whoever waits.
        while outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
            outcome = read();
        }
        self.buffer.truncate(start + outcome.as_ref().map_or(0, |len| *len));
        match outcome {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) if is_end(error.kind()) => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing came in {PATIENCE:?}"),
            Err(error) => panic!("{error}"),
        }
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

fn owned(event: &Event<'_>) -> Received {
    match *event {
        Event::Message { payload, .. } => Received::Message(payload.to_vec()),
        Event::Ping(payload) => Received::Ping(payload.to_vec()),
        Event::Pong(payload) => Received::Pong(payload.to_vec()),
        Event::Close { code, reason } => Received::Close(code.unwrap_or(1005), reason.to_owned()),
    }
}
