//! A way to a server that can be made slow: whatever the server answers arrives so much later, and in order.

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
    is_closed: AtomicBool,
}

impl Lane {
    /// To a server.
    pub(super) fn start(host: &str, to: u16) -> Result<Self> {
        let port = free_port()?;
        let listener = TcpListener::bind((host, port)).context("a lane")?;
        let shared = Arc::new(Shared::default());
        let (of_thread, host) = (Arc::clone(&shared), host.to_owned());
        thread::Builder::new().name("lane".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if of_thread.is_closed.load(Ordering::Acquire) {
                    return;
                }
                // A server that cannot be reached closes the connection.
                let Ok(stream) = stream else { continue };
                let Ok(server) = TcpStream::connect((host.as_str(), to)) else { continue };
                let _ = join(stream, server, &of_thread);
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
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Release);
        // It waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Starts the threads of one connection: questions, answers as they come, and answers as they arrive.
fn join(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> Result<()> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let (sender, receiver) = sync_channel(ON_THE_WAY_MAX);
    let shared = Arc::clone(shared);
    let spawn = |work: Box<dyn FnOnce() + Send>| thread::Builder::new().name("lane".to_owned()).spawn(work);
    spawn(Box::new(move || carry(from_client, to_server)))?;
    spawn(Box::new(move || listen(server, &sender, &shared)))?;
    spawn(Box::new(move || arrive(client, &receiver)))?;
    Ok(())
}

/// Questions go at once.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = vec![0; PIECE];
    while let Some(len) = read(&mut from, &mut piece) {
        if to.write_all(&piece[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Answers, each with the time at which it arrives.
fn listen(mut server: TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>, shared: &Shared) {
    let mut piece = vec![0; PIECE];
    while let Some(len) = read(&mut server, &mut piece) {
        let delay = Duration::from_millis(shared.delay_ms.load(Ordering::Acquire));
        if sender.send((Instant::now() + delay, piece[..len].to_vec())).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

fn arrive(mut client: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    for (at, piece) in receiver {
        wait_until(at);
        if client.write_all(&piece).is_err() {
            break;
        }
    }
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

    #[test]
    fn answers_arrive_later_and_in_order() {
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
        let mut stream = TcpStream::connect(("127.0.0.1", lane.port())).unwrap();
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
}
