//! A way to a server that can be made slow, or cut: whatever the server answers arrives so much later, and in order; or nothing passes,
//! either way, and nobody is told.

use super::nap;
use super::port::free_port;
use anyhow::{Context, Result};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces of answers on their way on one connection; beyond it the server is not read.
const ON_THE_WAY_MAX: usize = 4096;
const PIECE: usize = 64 << 10;

/// Ends with its value; connections that stand end with either of their ends.
#[derive(Debug)]
pub(crate) struct Lane {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    delay_ms: AtomicU64,
    is_cut: AtomicBool,
    is_closed: AtomicBool,
}

impl Shared {
    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::Acquire))
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Returns at once unless it is cut.
    fn wait_while_cut(&self) {
        while self.is_cut.load(Ordering::Acquire) && !self.is_closed() {
            nap();
        }
    }
}

impl Lane {
    /// To a server.
    pub(super) fn start(host: &str, to: u16) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind((host, port)).context("a lane")?;
        let shared = Arc::new(Shared::default());
        let (of_thread, host) = (Arc::clone(&shared), host.to_owned());
        spawn(move || {
            for stream in listener.incoming() {
                if of_thread.is_closed() {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (shared, host) = (Arc::clone(&of_thread), host.clone());
                // Without a thread for it the connection ends.
                let _ = spawn(move || join(stream, &host, to, &shared));
            }
        })?;
        Ok(Self { port, shared })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// What the server says from now on arrives so much later.
    pub(crate) fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.shared.delay_ms.store(millis, Ordering::Release);
    }

    /// From now on nothing passes, or everything again, also what was held up. Whoever dials meanwhile waits.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.shared.is_cut.store(is_cut, Ordering::Release);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Release);
        // It waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name("lane".to_owned()).spawn(work)?;
    Ok(())
}

/// One connection: questions, answers as they come, and answers as they arrive have a thread each.
fn join(client: TcpStream, host: &str, to: u16, shared: &Arc<Shared>) {
    shared.wait_while_cut();
    // A server that cannot be reached closes the connection.
    let Ok(server) = TcpStream::connect((host, to)) else { return };
    let halves = || -> Result<(TcpStream, TcpStream)> {
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        Ok((client.try_clone()?, server.try_clone()?))
    };
    let Ok((from_client, to_server)) = halves() else { return };
    let (sender, receiver) = sync_channel(ON_THE_WAY_MAX);
    let (of_questions, of_answers) = (Arc::clone(shared), Arc::clone(shared));
    let _ = spawn(move || carry(from_client, to_server, &of_questions));
    let _ = spawn(move || listen(server, &sender, &of_answers));
    arrive(client, &receiver, shared);
}

/// Questions go at once.
fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut piece = vec![0; PIECE];
    while let Some(len) = read(&mut from, &mut piece) {
        shared.wait_while_cut();
        if to.write_all(&piece[..len]).is_err() {
            break;
        }
    }
    shared.wait_while_cut();
    let _ = to.shutdown(Shutdown::Both);
}

/// Answers, each with the time at which it arrives.
fn listen(mut server: TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>, shared: &Shared) {
    let mut piece = vec![0; PIECE];
    while let Some(len) = read(&mut server, &mut piece) {
        if sender.send((Instant::now() + shared.delay(), piece[..len].to_vec())).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

fn arrive(mut client: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>, shared: &Shared) {
    for (at, piece) in receiver {
        wait_until(at);
        shared.wait_while_cut();
        if client.write_all(&piece).is_err() {
            break;
        }
    }
    shared.wait_while_cut();
    let _ = client.shutdown(Shutdown::Both);
}

fn read(stream: &mut TcpStream, piece: &mut [u8]) -> Option<usize> {
    loop {
        match stream.read(piece) {
            Ok(0) => return None,
            Ok(len) => return Some(len),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "being slow is what this is for")]
fn wait_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says what it is told, the lane to it and a connection.
    fn echo() -> (thread::JoinHandle<()>, Lane, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let echo = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut piece = [0; 64];
            while let Some(len) = read(&mut stream, &mut piece) {
                stream.write_all(&piece[..len]).unwrap();
            }
        });
        let lane = Lane::start("127.0.0.1", port).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", lane.port())).unwrap();
        (echo, lane, stream)
    }

    #[test]
    fn answers_arrive_later_and_in_order() {
        let (echo, lane, mut stream) = echo();
        lane.delay(Duration::from_millis(300));
        let asked = Instant::now();
        stream.write_all(b"first,").unwrap();
        stream.write_all(b"second").unwrap();
        let mut said = [0; 12];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"first,second");
        assert!(asked.elapsed() >= Duration::from_millis(300));
        drop(stream);
        echo.join().unwrap();
    }

    #[test]
    fn nothing_passes_a_lane_that_is_cut_and_everything_later() {
        let (echo, lane, mut stream) = echo();
        let mut said = [0; 6];
        stream.write_all(b"before").unwrap();
        stream.read_exact(&mut said).unwrap();
        lane.cut(true);
        stream.write_all(b"during").unwrap();
        let mut late = TcpStream::connect(("127.0.0.1", lane.port())).unwrap();
        for stream in [&mut stream, &mut late] {
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let silent = stream.read(&mut said).unwrap_err();
            assert_eq!(silent.kind(), ErrorKind::WouldBlock, "neither a byte nor an end");
            stream.set_read_timeout(None).unwrap();
        }
        lane.cut(false);
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"during");
        // The server listens no more.
        drop(stream);
        echo.join().unwrap();
        assert!(matches!(late.read(&mut said), Ok(0) | Err(_)));
    }
}
