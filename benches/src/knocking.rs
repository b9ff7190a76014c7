//! Clients that are refused: each dials, asks for an upgrade, and takes what it is told to the end of its connection.
//!
//! They are made of the node's engine and codec, as those that are served ([`crate::fleet`]), so that both cost a client process
//! alike.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pinwire_engine::{Cause, Engine, Event, Slot};
use pinwire_protocol::ws;
use pinwire_protocol::ws::handshake::{
    BadResponse, ClientRequest, Expected, ParsedResponse, append_request, parse_response, request_key,
};
use pinwire_tls::client_session;
use socket2::{Domain, Socket, Type};

use crate::crowd::source;
use crate::fleet::{FleetTls, mask, queue};
use crate::tokens::Mint;

/// Longest time without progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at which dials are due.
const PACE: Duration = Duration::from_millis(2);
/// The first byte of a close frame, and the code of a refusal that names a time.
const CLOSE: u8 = 0x88;
const TRY_AGAIN_LATER: u16 = 1013;

/// How a client asks, which says how it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// As y-websocket's clients: the document in the path, the token in the query. 503.
    YWebsocket,
    /// As Hocuspocus' clients: neither, they come later. 503.
    Hocuspocus,
    /// As those who want to read the reason in a browser (`?refuse=close`): the upgrade, and close code 1013.
    Close,
}

impl Asks {
    /// For tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::YWebsocket => "refused, y-websocket (503)",
            Self::Hocuspocus => "refused, Hocuspocus (503)",
            Self::Close => "refused, `?refuse=close` (1013)",
        }
    }

    fn target(self, document: &str, token: &str) -> String {
        match self {
            Self::YWebsocket => format!("/{document}?token={token}"),
            Self::Hocuspocus => "/".to_owned(),
            Self::Close => format!("/{document}?refuse=close&token={token}"),
        }
    }
}

/// Many dials.
#[derive(Debug)]
pub struct Burst<'a> {
    /// How they ask.
    pub asks: Asks,
    /// Their tokens.
    pub mint: &'a Mint,
    /// How many.
    pub count: usize,
    /// Under way at most.
    pub dialling: usize,
    /// So many a second; as fast as it goes if there is none.
    pub per_second: Option<f64>,
    /// A connection may end without a word.
    pub may_be_cut: bool,
}

/// What they were told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// How many were refused, by the reason; `1013` for a close, which names none.
    pub reasons: BTreeMap<String, usize>,
    /// How many were told nothing.
    pub cut: usize,
    /// After how long they are to come again, each.
    pub waits: Vec<Duration>,
    /// Bytes that they were sent, those of TLS not counted.
    pub bytes: u64,
    /// Bytes that they sent, likewise.
    pub asked_bytes: u64,
    /// How long it took.
    pub time: Duration,
}

impl Told {
    /// Those that were told something.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.waits.len()
    }

    /// Those whose connection has ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.waits.len() + self.cut
    }
}

/// See the module's documentation.
pub struct Knocking {
    engine: Engine,
    server: SocketAddr,
    host: String,
    tls: Option<FleetTls>,
    /// By the slot's index.
    callers: Vec<Option<Caller>>,
    dialled: usize,
}

struct Caller {
    key: String,
    answer: Vec<u8>,
    /// It has answered a close frame.
    has_replied: bool,
}

impl std::fmt::Debug for Knocking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Knocking").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Knocking {
    /// Clients of this server.
    #[must_use]
    pub fn new(engine: Engine, server: SocketAddr, tls: Option<FleetTls>) -> Self {
        Self { engine, server, host: server.to_string(), tls, callers: Vec::new(), dialled: 0 }
    }

    /// Dials until so many were refused.
    ///
    /// # Errors
    /// One is let in, is told something else than the contract has, or makes no progress.
    pub async fn knock(&mut self, burst: &Burst<'_>) -> Result<Told> {
        let (begun, mut told, mut dialled) = (Instant::now(), Told::default(), 0);
        let mut progress = (0, begun);
        while told.ended() < burst.count {
            let due = match burst.per_second {
                Some(rate) => burst.count.min((begun.elapsed().as_secs_f64() * rate) as usize + 1),
                None => burst.count,
            };
            while dialled < due && dialled - told.ended() < burst.dialling {
                self.dial(burst, &mut told)?;
                dialled += 1;
            }
            if told.ended() > progress.0 {
                progress = (told.ended(), Instant::now());
            }
            ensure!(progress.1.elapsed() < PATIENCE, "{} are told nothing", dialled - told.ended());
            let pause =
                if dialled < due || burst.per_second.is_none() { Duration::from_millis(100) } else { PACE };
            self.turn(Instant::now() + pause, burst, &mut told).await?;
        }
        told.time = begun.elapsed();
        Ok(told)
    }

    fn dial(&mut self, burst: &Burst<'_>, told: &mut Told) -> Result<()> {
        let number = self.dialled;
        self.dialled += 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None).context("no socket")?;
        socket.bind(&SocketAddrV4::new(source(number)?, 0).into()).context("no port")?;
        socket.connect(&self.server.into()).context("the node refuses connections")?;
        let slot = self.engine.adopt(OwnedFd::from(socket), self.server)?;
        if let Some(FleetTls { config, names }) = &self.tls {
            let name = format!("client-{}.example", number % names);
            self.engine.set_transform(slot, client_session(Arc::clone(config), &name)?);
        }
        let key = request_key(fastrand::u128(..).to_ne_bytes());
        let request = ClientRequest {
            host: &self.host,
            target: &burst.asks.target(&format!("document-{number:05}"), &burst.mint.token()?),
            key: &key,
            protocols: &[],
            origin: None,
            headers: &[],
            deflate: false,
        };
        let start = self.engine.arena().len();
        append_request(self.engine.arena(), &request)?;
        told.asked_bytes += (self.engine.arena().len() - start) as u64;
        queue(&mut self.engine, slot, start)?;
        if self.callers.len() <= slot.index() {
            self.callers.resize_with(slot.index() + 1, || None);
        }
        self.callers[slot.index()] = Some(Caller { key, answer: Vec::new(), has_replied: false });
        Ok(())
    }

    async fn turn(&mut self, deadline: Instant, burst: &Burst<'_>, told: &mut Told) -> Result<()> {
        self.engine.flush();
        self.engine.wait(Some(deadline)).await;
        self.engine.poll();
        while let Some(event) = self.engine.next_event() {
            match event {
                Event::Data { slot, buf } => {
                    told.bytes += buf.len() as u64;
                    let answered = self.received(slot, &buf, burst);
                    self.engine.recycle(buf);
                    answered?;
                }
                Event::Ended { slot, cause } => self.ended(slot, cause, burst, told)?,
                _ => {}
            }
        }
        self.engine.flush();
        Ok(())
    }

    /// Keeps what came; a close frame is answered, as RFC 6455 5.5.1 has it.
    fn received(&mut self, slot: Slot, bytes: &[u8], burst: &Burst<'_>) -> Result<()> {
        let caller = self.callers.get_mut(slot.index()).and_then(Option::as_mut).context("nobody's bytes")?;
        caller.answer.extend_from_slice(bytes);
        if burst.asks == Asks::Close && !caller.has_replied && closed(caller)?.is_some() {
            caller.has_replied = true;
            let start = self.engine.arena().len();
            ws::append_close_reply(self.engine.arena(), Some(TRY_AGAIN_LATER), Some(mask()));
            queue(&mut self.engine, slot, start)?;
        }
        Ok(())
    }

    fn ended(&mut self, slot: Slot, cause: Cause, burst: &Burst<'_>, told: &mut Told) -> Result<()> {
        self.engine.close(slot);
        let Some(caller) = self.callers.get_mut(slot.index()).and_then(Option::take) else { return Ok(()) };
        let is_end = matches!(cause, Cause::Eof | Cause::Reset);
        if caller.answer.is_empty() && is_end && burst.may_be_cut {
            told.cut += 1;
            return Ok(());
        }
        let (reason, wait) = match burst.asks {
            Asks::Close => ("1013".to_owned(), closed(&caller)?.with_context(|| format!("{cause:?}"))?),
            Asks::YWebsocket | Asks::Hocuspocus => refused(&caller).with_context(|| format!("{cause:?}"))?,
        };
        *told.reasons.entry(reason).or_default() += 1;
        told.waits.push(wait);
        Ok(())
    }
}

fn expected(caller: &Caller) -> Expected<'_> {
    Expected { key: &caller.key, protocols: &[], deflate: false }
}

/// Reason and time of a refusal in HTTP.
fn refused(caller: &Caller) -> Result<(String, Duration)> {
    match parse_response(&caller.answer, &expected(caller)) {
        Err(BadResponse::Status { status: 503, retry_after_secs: Some(seconds) }) => {
            let text = std::str::from_utf8(&caller.answer)?;
            let (_, body) = text.split_once("\r\n\r\n").context("an answer without a body")?;
            let body: serde_json::Value = serde_json::from_str(body).context("what a refusal says")?;
            let reason = body["reason"].as_str().context("a refusal without a reason")?;
            Ok((reason.to_owned(), Duration::from_secs(seconds.into())))
        }
        Ok(ParsedResponse::Complete { .. }) => bail!("a client was let in"),
        Ok(ParsedResponse::Partial) => {
            bail!("the answer broke off: {:?}", String::from_utf8_lossy(&caller.answer))
        }
        Err(other) => bail!("a client was answered with {other}"),
    }
}

/// The time of a refusal by a close frame, if that is here whole.
fn closed(caller: &Caller) -> Result<Option<Duration>> {
    let ParsedResponse::Complete { head_len, .. } = parse_response(&caller.answer, &expected(caller))? else {
        return Ok(None);
    };
    let rest = caller.answer.get(head_len..).unwrap_or_default();
    let [first, len, payload @ ..] = rest else { return Ok(None) };
    ensure!(*first == CLOSE, "a client was let in");
    let Some((code, reason)) = payload.get(..usize::from(*len)).and_then(<[u8]>::split_first_chunk) else {
        return Ok(None);
    };
    let reason = std::str::from_utf8(reason)?;
    let code = u16::from_be_bytes(*code);
    ensure!(code == TRY_AGAIN_LATER, "a client was closed with {code} {reason}");
    let ms = reason.strip_prefix("retry_ms=").with_context(|| format!("a close says {reason:?}"))?;
    Ok(Some(Duration::from_millis(ms.parse()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinwire_protocol::ws::handshake::append_refusal;
    use pinwire_protocol::ws::handshake::append_response;

    fn caller(answer: Vec<u8>) -> Caller {
        Caller { key: "dGhlIHNhbXBsZSBub25jZQ==".to_owned(), answer, has_replied: false }
    }

    #[test]
    fn what_a_refusal_says_is_read_and_anything_else_is_none() {
        let mut answer = Vec::new();
        append_refusal(&mut answer, 503, Some(7), r#"{"error":"busy","reason":"overloaded","change":"a-1"}"#);
        let (reason, wait) = refused(&caller(answer.clone())).unwrap();
        assert_eq!((reason.as_str(), wait), ("overloaded", Duration::from_secs(7)));
        answer.truncate(20);
        assert!(refused(&caller(answer)).unwrap_err().to_string().contains("broke off"));
        let mut other = Vec::new();
        append_refusal(&mut other, 503, None, "{}");
        assert!(refused(&caller(other)).is_err(), "no time");
    }

    #[test]
    fn a_close_is_read_once_it_is_there_whole() {
        let mut answer = Vec::new();
        append_response(&mut answer, "dGhlIHNhbXBsZSBub25jZQ==", None, None);
        assert!(refused(&caller(answer.clone())).unwrap_err().to_string().contains("let in"));
        ws::append_close(&mut answer, TRY_AGAIN_LATER, "retry_ms=1500", None);
        let whole = answer.len();
        for len in 0..whole {
            assert_eq!(closed(&caller(answer[..len].to_vec())).unwrap(), None, "{len}");
        }
        assert_eq!(closed(&caller(answer)).unwrap(), Some(Duration::from_millis(1500)));
    }
}
