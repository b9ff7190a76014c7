//! One link: reading, writing, its health.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use pinwire_peer::{Assembler, LinkError, Message, decode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, interval, timeout};

use super::hub::{Hub, Link};
use crate::data::Envelope;

/// How often a link is pinged.
const PING: Duration = Duration::from_secs(5);
/// A link that brings nothing for so long, or takes nothing, is cut.
const PATIENCE: Duration = Duration::from_secs(15);
/// A link that was dialled and that nobody uses is given up after so long.
const IDLE: Duration = Duration::from_secs(300);
/// Bytes read, and written, at once.
const CHUNK: usize = 64 << 10;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the other end closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Broken(#[from] LinkError),
    #[error("the other end was silent for {PATIENCE:?}")]
    Silent,
    #[error("the other end took nothing for {PATIENCE:?}")]
    Stuck,
    #[error("nobody uses it")]
    Idle,
    #[error("{0}")]
    Cut(&'static str),
}

impl Ended {
    /// As they are counted.
    pub(super) const WORDS: [&'static str; 7] =
        ["closed", "io_error", "malformed", "silent", "stuck", "idle", "cut"];

    pub(super) fn index(&self) -> usize {
        match self {
            Self::Closed => 0,
            Self::Io(_) => 1,
            Self::Broken(_) => 2,
            Self::Silent => 3,
            Self::Stuck => 4,
            Self::Idle => 5,
            Self::Cut(_) => 6,
        }
    }
}

/// Runs a link until it ends; `behind` came with the proof. What it carried is over then, and data threads know it.
pub(super) async fn run<S: AsyncRead + AsyncWrite>(hub: Rc<Hub>, link: Rc<Link>, stream: S, behind: Vec<u8>) {
    let (number, peer) = (link.number, link.peer.clone());
    tracing::info!(link = number, %peer, "linked to a node");
    let (reader, writer) = tokio::io::split(stream);
    let ended = tokio::select! {
        ended = read(&hub, &link, reader, behind) => ended,
        ended = write(&hub, &link, writer) => ended,
        ended = watch(&link) => ended,
        why = link.is_cut() => Ended::Cut(why),
    };
    tracing::info!(link = number, %peer, %ended, sessions = link.sessions(), "a link to a node has ended");
    hub.stats().ended(&ended);
    hub.lose(number).await;
}

async fn read<R: AsyncRead>(hub: &Rc<Hub>, link: &Rc<Link>, reader: R, behind: Vec<u8>) -> Ended {
    match read_on(hub, link, reader, behind).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn read_on<R: AsyncRead>(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    reader: R,
    behind: Vec<u8>,
) -> Result<std::convert::Infallible, Ended> {
    tokio::pin!(reader);
    let mut assembler = Assembler::default();
    assembler.feed(&behind);
    let mut chunk = vec![0; CHUNK];
    loop {
        while let Some(message) = assembler.next_message()? {
            handle(hub, link, decode(&message)?).await?;
        }
        let read = timeout(PATIENCE, reader.read(&mut chunk)).await.map_err(|_| Ended::Silent)??;
        if read == 0 {
            return Err(Ended::Closed);
        }
        hub.stats().bytes_in.more(read as u64);
        assembler.feed(&chunk[..read]);
    }
}

async fn handle(hub: &Rc<Hub>, link: &Rc<Link>, message: Message) -> Result<(), Ended> {
    match message {
        Message::Ping(stamp) => link.say(&Message::Pong(stamp)),
        Message::Pong(_) => {}
        Message::Leaving(_) if !link.is_home() => return Err(LinkError::Role.into()),
        Message::Leaving(leaves) => {
            tracing::info!(link = link.number, peer = %link.peer, leaves, "a node tells whether it leaves");
            link.leaves.set(leaves);
        }
        Message::Moving(moving) => super::moves::receive(hub, link, *moving)?,
        message => {
            let mail = hub.receive(link, message)?;
            // What the other end was refused at once.
            link.wake.notify_one();
            for (thread, mail) in mail {
                hub.post(thread, Envelope::Mail { from: link.number, mail }).await;
            }
        }
    }
    Ok(())
}

async fn write<W: AsyncWrite>(hub: &Hub, link: &Link, writer: W) -> Ended {
    tokio::pin!(writer);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        link.out.borrow_mut().fill(&mut bytes, CHUNK);
        if bytes.is_empty() {
            link.wake.notified().await;
            continue;
        }
        // In pieces: a slow link that takes some is not stuck.
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match timeout(PATIENCE, writer.write(rest)).await {
                Err(_) => return Ended::Stuck,
                Ok(Ok(0)) => return Ended::Closed,
                Ok(Ok(written)) => {
                    hub.stats().bytes_out.more(written as u64);
                    rest = &rest[written..];
                }
                Ok(Err(error)) => return error.into(),
            }
        }
        if let Err(error) = writer.flush().await {
            return error.into();
        }
    }
}

/// Pings, so that the other end hears something; gives a link up that nobody uses.
async fn watch(link: &Link) -> Ended {
    let mut ticks = interval(PING);
    let mut used = Instant::now();
    loop {
        ticks.tick().await;
        link.say(&Message::Ping(0));
        if link.sessions() > 0 || !link.is_home() {
            used = Instant::now();
        } else if used.elapsed() >= IDLE {
            return Ended::Idle;
        }
    }
}
