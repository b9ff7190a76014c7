//! What two processes of a node say to each other over a pair of Unix sockets, and how listening sockets go along.

use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::{GENERATION, Handed};

/// Sockets in one message: the kernel takes 253.
const BATCH: usize = 64;
/// Sockets in all: far more than a node has.
const SOCKETS_MAX: usize = 16_384;
/// What a message with sockets consists of besides them: whether it is the last.
const MORE: u8 = b'+';
const LAST: u8 = b'.';
/// The other process has its sockets in its hand: it answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of an answer.
const LINE_MAX: usize = 4096;
/// Said once a process accepts, and once it leaves as it was told to.
const READY: &[u8] = b"ready\n";
const LEAVES: &[u8] = b"leaves\n";

/// Gives sockets away.
pub(super) fn give(to: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    to.set_write_timeout(Some(PATIENCE))?;
    let mut batches: Vec<&[OwnedFd]> = sockets.chunks(BATCH).collect();
    if batches.is_empty() {
        batches.push(&[]);
    }
    let last = batches.len() - 1;
    for (number, batch) in batches.into_iter().enumerate() {
        let sockets: Vec<BorrowedFd<'_>> = batch.iter().map(OwnedFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !along.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other("there is no room for the sockets"));
        }
        let word = [if number == last { LAST } else { MORE }];
        sendmsg(to, &[IoSlice::new(&word)], &mut along, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Takes sockets that are given.
fn take(from: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    from.set_read_timeout(Some(PATIENCE))?;
    let mut sockets = Vec::new();
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut along = RecvAncillaryBuffer::new(&mut space);
        let mut word = [0];
        let got = recvmsg(from, &mut [IoSliceMut::new(&mut word)], &mut along, RecvFlags::CMSG_CLOEXEC)?;
        for message in along.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights);
            }
        }
        match (got.bytes, word) {
            (1, [LAST]) => return Ok(sockets),
            (1, [MORE]) if sockets.len() < SOCKETS_MAX => {}
            _ => return Err(io::Error::other("the process before says something else than expected")),
        }
    }
}

/// The process before this one, as this one sees it.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    /// Which process of the node this one is, from 2.
    pub generation: u32,
}

impl Predecessor {
    /// The one that started this process, if one did, and what it has for it.
    ///
    /// # Errors
    /// It is not there, or says something else than expected.
    pub fn of_this_process() -> io::Result<Option<(Self, Handed)>> {
        let Ok(generation) = std::env::var(GENERATION) else { return Ok(None) };
        let generation =
            generation.parse().map_err(|_| io::Error::other(format!("{GENERATION} is no number")))?;
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let sockets = take(&stream)?;
        Ok(Some((Self { stream, generation }, Handed::new(sockets))))
    }

    /// This process accepts: the one before may go. It watches this one until then.
    ///
    /// # Errors
    /// It is gone.
    pub fn is_succeeded(&mut self) -> io::Result<()> {
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(READY)
    }

    /// This process leaves as it was told to: nobody is to go on in its place.
    pub fn is_left(&mut self) {
        // The one before may be gone by now.
        let _ = self.stream.write_all(LEAVES);
    }

    /// This process does not start, for this reason.
    pub fn is_not_succeeded(mut self, error: &str) {
        let line: String =
            error.chars().map(|c| if c == '\n' { ' ' } else { c }).take(LINE_MAX / 8).collect();
        // It sees the end of this process all the same.
        let _ = self.stream.write_all(format!("{line}\n").as_bytes());
    }
}

/// What the next process says, line by line.
pub(super) struct Listening<'a>(BufReader<&'a UnixStream>);

impl<'a> Listening<'a> {
    pub(super) fn to(next: &'a UnixStream) -> Self {
        Self(BufReader::new(next))
    }

    /// Empty at its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        io::Read::take(&mut self.0, LINE_MAX as u64).read_until(b'\n', &mut line)?;
        Ok(line)
    }

    /// Waits until the next process is ready.
    ///
    /// # Errors
    /// It is not within the time, or says why it does not start.
    pub(super) fn await_ready(&mut self, patience: Duration) -> io::Result<()> {
        self.0.get_ref().set_read_timeout(Some(patience))?;
        match &*self.line()? {
            READY => Ok(()),
            [] => Err(io::Error::other("it ended before it was ready; its log says why")),
            error => Err(io::Error::other(String::from_utf8_lossy(error).trim_end().to_owned())),
        }
    }

    /// Waits for as long as it serves: true if it leaves as it was told to, false if it is gone without a word.
    pub(super) fn await_leave(&mut self) -> bool {
        let forever = self.0.get_ref().set_read_timeout(None);
        forever.and_then(|()| self.line()).is_ok_and(|line| line == LEAVES)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn many_sockets_arrive_in_their_order() {
        let listeners: Vec<TcpListener> =
            (0..150).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let sockets: Vec<OwnedFd> = listeners.iter().map(|one| one.try_clone().unwrap().into()).collect();
        for count in [0, 1, BATCH, 150] {
            let (one, other) = UnixStream::pair().unwrap();
            give(&one, &sockets[..count]).unwrap();
            let taken = take(&other).unwrap();
            let address = |socket: OwnedFd| TcpListener::from(socket).local_addr().unwrap();
            let expected: Vec<_> = listeners[..count].iter().map(|one| one.local_addr().unwrap()).collect();
            assert_eq!(taken.into_iter().map(address).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn an_end_is_told_from_being_ready_and_from_a_reason() {
        let answer = |tell: fn(Predecessor)| {
            let (one, other) = UnixStream::pair().unwrap();
            tell(Predecessor { stream: other, generation: 2 });
            Listening::to(&one).await_ready(PATIENCE).map_err(|error| error.to_string())
        };
        assert_eq!(answer(|mut next| next.is_succeeded().unwrap()), Ok(()));
        assert!(answer(drop).unwrap_err().contains("ended before it was ready"));
        assert_eq!(answer(|next| next.is_not_succeeded("no\nroom")), Err("no room".to_owned()));
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(Listening::to(&one).await_ready(Duration::from_millis(20)).is_err());
    }

    #[test]
    fn who_leaves_as_it_was_told_to_is_told_from_who_is_lost() {
        for is_told in [true, false] {
            let (one, other) = UnixStream::pair().unwrap();
            let mut next = Predecessor { stream: other, generation: 2 };
            next.is_succeeded().unwrap();
            if is_told {
                next.is_left();
            }
            drop(next);
            let mut listening = Listening::to(&one);
            listening.await_ready(PATIENCE).unwrap();
            assert_eq!(listening.await_leave(), is_told);
        }
    }
}
