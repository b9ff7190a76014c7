//! Listeners that several threads share a port with.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use crate::sys;

/// Connections that may wait to be accepted; the system lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listener of one thread among several on the same address (SO_REUSEPORT): the kernel spreads connections evenly.
/// With port 0 the first one chooses; give its address to the others.
///
/// # Errors
/// When the address cannot be bound.
pub fn listener(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = sys::stream_socket(&addr)?;
    sys::set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    sys::set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    sys::bind(socket.as_fd(), &addr)?;
    sys::listen(socket.as_fd(), BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn several_listeners_share_an_address() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let first = listener(host.parse().unwrap()).unwrap();
            let addr = first.local_addr().unwrap();
            let second = listener(addr).unwrap();
            assert_eq!(second.local_addr().unwrap(), addr);
            TcpStream::connect(addr).unwrap();
        }
    }
}
