//! The least that refusing takes: a connection is accepted, read once, answered and closed, a system call each, by a thread that does
//! nothing else and waits in them.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Result;
use pinwire_protocol::ws::handshake::append_refusal;

/// What the thread is called.
pub const THREAD: &str = "floor";
/// Clients come again after 1 to this many seconds.
const WAIT_MAX: u32 = 5;

/// A thread that refuses everybody. It ends with its handle.
#[derive(Debug)]
pub struct Refusing {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Refusing {
    /// Starts it, on the processors of the calling thread.
    ///
    /// # Errors
    /// There is no port, or no thread.
    pub fn start() -> Result<Self> {
        let listener = pinwire_engine::listener((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(false)?;
        let is_over = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&is_over);
        let serve = move || serve(&listener, &seen);
        let thread = Some(std::thread::Builder::new().name(THREAD.to_owned()).spawn(serve)?);
        Ok(Self { address, is_over, thread })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // One more, so that it looks.
        drop(TcpStream::connect(self.address).map(|stream| stream.shutdown(Shutdown::Write)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, is_over: &AtomicBool) {
    let (mut request, mut answer) = (vec![0; super::READ_MAX], Vec::new());
    for number in 0_u32.. {
        // A client that has gone is no reason to stop.
        let Ok((stream, _)) = listener.accept() else { continue };
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let wait = 1 + number % WAIT_MAX;
        let _ = refuse(stream, &mut request, &mut answer, wait);
    }
}

fn refuse(mut stream: TcpStream, request: &mut [u8], answer: &mut Vec<u8>, wait: u32) -> io::Result<()> {
    // Requests of clients under test come in one piece.
    if stream.read(request)? == 0 {
        return Ok(());
    }
    answer.clear();
    append_refusal(answer, 503, Some(wait), r#"{"error":"busy","reason":"overloaded","change":"floor-1"}"#);
    stream.write_all(answer)
}
