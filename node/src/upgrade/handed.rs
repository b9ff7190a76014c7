//! Sockets that a process was given by the one before.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{SockRef, Type};

/// Each is taken by whoever listens at its address. Those that nobody takes are closed with this.
#[derive(Debug, Default)]
pub struct Handed(Vec<OwnedFd>);

impl Handed {
    /// These.
    #[must_use]
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        Self(sockets)
    }

    /// All that listen at an address; port 0 is any port.
    pub(crate) fn listeners(&mut self, wanted: SocketAddr) -> Vec<TcpListener> {
        let is_it = |socket: &OwnedFd| is_at(socket, wanted, Type::STREAM);
        let mut taken: Vec<TcpListener> = Vec::new();
        let mut at = 0;
        while at < self.0.len() {
            if !is_it(&self.0[at]) {
                at += 1;
                continue;
            }
            let listener = TcpListener::from(self.0.remove(at));
            // Any port is one of them.
            match (taken.first().map(TcpListener::local_addr), listener.local_addr()) {
                (Some(Ok(first)), Ok(this)) if first != this => {
                    self.0.insert(at, listener.into());
                    at += 1;
                }
                _ => taken.push(listener),
            }
        }
        taken
    }

    /// One that listens at an address.
    pub(crate) fn listener(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let mut all = self.listeners(wanted);
        let first = (!all.is_empty()).then(|| all.remove(0));
        self.0.extend(all.into_iter().map(OwnedFd::from));
        first
    }

    /// One that datagrams to an address come to.
    pub(crate) fn datagrams(&mut self, wanted: SocketAddr) -> Option<UdpSocket> {
        let at = self.0.iter().position(|socket| is_at(socket, wanted, Type::DGRAM))?;
        Some(UdpSocket::from(self.0.remove(at)))
    }

    /// The one that listens on a Unix socket. It was bound under a name that it has lost, next to the one that it has.
    pub(crate) fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let is_it = |socket: &OwnedFd| {
            let address = SockRef::from(socket).local_addr().ok();
            let bound = address.and_then(|address| address.as_pathname().map(Path::to_owned));
            bound.is_some_and(|bound| bound.parent() == path.parent() && was_made_for(&bound, path))
        };
        let at = self.0.iter().position(is_it)?;
        Some(UnixListener::from(self.0.remove(at)))
    }
}

/// Whether it is such a socket of an address; port 0 is any port.
fn is_at(socket: &OwnedFd, wanted: SocketAddr, kind: Type) -> bool {
    let socket = SockRef::from(socket);
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    let is_there =
        |address: SocketAddr| address.ip() == wanted.ip() && [0, address.port()].contains(&wanted.port());
    address.is_some_and(is_there) && socket.r#type().is_ok_and(|found| found == kind)
}

/// See the admin listener: it is `NAME.PID.tmp` before it is `NAME.sock`.
fn was_made_for(bound: &Path, path: &Path) -> bool {
    let (Some(bound), Some(name)) = (bound.file_name(), path.file_stem()) else { return false };
    let (bound, name) = (bound.to_string_lossy(), name.to_string_lossy());
    let pid = bound.strip_prefix(&*name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".tmp"));
    pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_is_taken_by_its_address_once() {
        let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, other) = (tcp(), tcp());
        let (first, second) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        let udp = UdpSocket::bind(first).unwrap();
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let unix = UnixListener::bind(home.path().join("admin.7.tmp")).unwrap();
        std::fs::rename(home.path().join("admin.7.tmp"), &path).unwrap();
        let mut handed = Handed::new(vec![udp.into(), one.into(), unix.into(), other.into()]);
        assert!(handed.datagrams(second).is_none(), "that takes connections");
        assert!(handed.listener("127.0.0.1:1".parse().unwrap()).is_none());
        assert_eq!(handed.listener(second).unwrap().local_addr().unwrap(), second);
        assert!(handed.listener(second).is_none());
        assert!(handed.unix(&home.path().join("other.sock")).is_none());
        assert!(handed.unix(&path).is_some() && handed.unix(&path).is_none());
        let any = handed.listeners("127.0.0.1:0".parse().unwrap());
        assert_eq!(any.iter().map(|any| any.local_addr().unwrap()).collect::<Vec<_>>(), [first]);
        assert_eq!(handed.datagrams(first).unwrap().local_addr().unwrap(), first);
        assert!(handed.datagrams(first).is_none());
    }
}
