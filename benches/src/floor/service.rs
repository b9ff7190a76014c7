//! What a floor does with messages: back to where they came from, or on to the other members of a topic.

use super::wire::{self, Broken};
use super::{Handler, Next, Output, READ_MAX};

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FINAL: u8 = 0x80;

/// Echo and topics.
#[derive(Debug, Default)]
pub struct Service {
    conns: Vec<Conn>,
    topics: Vec<Vec<u32>>,
    open: usize,
    /// Somebody has come.
    was_used: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Conn {
    #[default]
    Upgrading,
    Echo,
    Member {
        topic: u32,
        /// Where it stands in the topic's list.
        place: u32,
    },
}

impl Handler for Service {
    fn opened(&mut self, conn: u32) {
        let index = conn as usize;
        if self.conns.len() <= index {
            self.conns.resize(index + 1, Conn::default());
        }
        self.conns[index] = Conn::Upgrading;
        self.open += 1;
        self.was_used = true;
    }

    fn received(&mut self, conn: u32, bytes: &mut [u8], out: &mut Output) -> Next {
        let answered = match self.conns[conn as usize] {
            Conn::Upgrading => self.upgrade(conn, bytes, out),
            Conn::Echo => echo(conn, bytes, out),
            Conn::Member { topic, .. } => relay(conn, &self.topics[topic as usize], bytes, out),
        };
        answered.unwrap_or(Next::Close)
    }

    fn closed(&mut self, conn: u32) {
        self.open -= 1;
        let Conn::Member { topic, place } = std::mem::take(&mut self.conns[conn as usize]) else { return };
        let members = &mut self.topics[topic as usize];
        members.swap_remove(place as usize);
        if let Some(moved) = members.get(place as usize) {
            self.conns[*moved as usize] = Conn::Member { topic, place };
        }
    }
}

impl Service {
    /// Whether the last client is gone.
    pub(super) fn is_idle(&self) -> bool {
        self.was_used && self.open == 0
    }

    fn upgrade(&mut self, conn: u32, bytes: &[u8], out: &mut Output) -> Result<Next, Broken> {
        let Some(request) = wire::request(bytes)? else { return Ok(Next::Used(0)) };
        let role = if request.path == "/echo" {
            Conn::Echo
        } else {
            let topic = request.path.strip_prefix("/t/").and_then(|number| number.parse().ok());
            let topic: u32 = topic.filter(|topic| *topic < 10_000).ok_or(Broken)?;
            if self.topics.len() <= topic as usize {
                self.topics.resize(topic as usize + 1, Vec::new());
            }
            let members = &mut self.topics[topic as usize];
            members.push(conn);
            Conn::Member { topic, place: members.len() as u32 - 1 }
        };
        self.conns[conn as usize] = role;
        let start = out.bytes.len();
        wire::append_upgrade(&mut out.bytes, request.key);
        out.send(conn, start);
        // Clients wait for the answer before they send frames.
        Ok(Next::Used(request.len))
    }
}

/// All answers to what one read brought leave together.
fn echo(conn: u32, bytes: &[u8], out: &mut Output) -> Result<Next, Broken> {
    let start = out.bytes.len();
    let mut at = 0;
    let mut is_over = false;
    while let Some(frame) = wire::frame(&bytes[at..], READ_MAX)? {
        let payload = &bytes[at + frame.start..at + frame.end];
        at += frame.end;
        match frame.opcode() {
            ..=2 => wire::append(&mut out.bytes, frame.first, payload, frame.key),
            PING => wire::append(&mut out.bytes, FINAL | PONG, payload, frame.key),
            CLOSE => {
                wire::append(&mut out.bytes, FINAL | CLOSE, payload, frame.key);
                is_over = true;
                break;
            }
            PONG => {}
            _ => return Err(Broken),
        }
    }
    out.send(conn, start);
    Ok(if is_over { Next::Close } else { Next::Used(at) })
}

fn relay(conn: u32, members: &[u32], bytes: &[u8], out: &mut Output) -> Result<Next, Broken> {
    let mut at = 0;
    while let Some(frame) = wire::frame(&bytes[at..], READ_MAX)? {
        let payload = &bytes[at + frame.start..at + frame.end];
        at += frame.end;
        let start = out.bytes.len();
        match frame.opcode() {
            ..=2 => {
                wire::append(&mut out.bytes, frame.first, payload, frame.key);
                let (start, end) = (start as u32, out.bytes.len() as u32);
                let others = members.iter().filter(|member| **member != conn);
                out.sends.extend(others.map(|member| (*member, start, end)));
            }
            PING => {
                wire::append(&mut out.bytes, FINAL | PONG, payload, frame.key);
                out.send(conn, start);
            }
            CLOSE => {
                wire::append(&mut out.bytes, FINAL | CLOSE, payload, frame.key);
                out.send(conn, start);
                return Ok(Next::Close);
            }
            PONG => {}
            _ => return Err(Broken),
        }
    }
    Ok(Next::Used(at))
}
