//! A way to a server that counts the bytes on it: what a client costs its server on the wire, both ends being as they always are.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

/// Listens on TCP, and goes to a Unix socket.
#[derive(Debug)]
pub struct Counted {
    address: SocketAddr,
    bytes: Arc<Bytes>,
}

#[derive(Debug, Default)]
struct Bytes {
    to_server: AtomicU64,
    to_client: AtomicU64,
}

impl Counted {
    /// Opens the way. It stays open as long as the process runs.
    ///
    /// # Errors
    /// There is no port.
    pub fn open(socket: &Path) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, bytes) = (listener.local_addr()?, Arc::<Bytes>::default());
        let (counted, socket) = (Arc::clone(&bytes), socket.to_owned());
        std::thread::spawn(move || accept(&listener, &socket, &counted));
        Ok(Self { address, bytes })
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes to the server and to its clients, so far.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes.to_server.load(Ordering::Relaxed), self.bytes.to_client.load(Ordering::Relaxed))
    }
}

fn accept(listener: &TcpListener, socket: &PathBuf, bytes: &Arc<Bytes>) {
    for client in listener.incoming().flatten() {
        let Ok(server) = UnixStream::connect(socket) else { continue };
        let ends = client.try_clone().and_then(|client| Ok((client, server.try_clone()?)));
        let Ok((client_too, server_too)) = ends else { continue };
        let (there, back) = (Arc::clone(bytes), Arc::clone(bytes));
        std::thread::spawn(move || {
            carry(&client_too, &server_too, &there.to_server);
            let _ = server_too.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            carry(&server, &client, &back.to_client);
            let _ = TcpStream::shutdown(&client, Shutdown::Both);
        });
    }
}

/// Until one of them ends.
fn carry(mut from: impl Read, mut to: impl Write, count: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = from.read(&mut buffer) {
        count.fetch_add(read as u64, Ordering::Relaxed);
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_goes_through_is_the_same_and_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server");
        let server = UnixListener::bind(&path).unwrap();
        let way = Counted::open(&path).unwrap();
        let mut client = TcpStream::connect(way.address()).unwrap();
        client.write_all(b"hello").unwrap();
        let (mut peer, _) = server.accept().unwrap();
        let mut said = [0; 5];
        peer.read_exact(&mut said).unwrap();
        peer.write_all(b"and more").unwrap();
        drop(peer);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((&said, answer.as_str()), (b"hello", "and more"));
        assert_eq!(way.bytes(), (5, 8));
    }
}
