//! Sockets to listen on, and who is at the other end of a connection.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::upgrade::Handed;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// A process of this host, on the Unix socket.
    Local {
        /// Its user.
        uid: u32,
    },
    /// Somebody on TCP.
    Remote {
        /// From where.
        address: SocketAddr,
        /// The certificate that was shown in the handshake: its first name, and the beginning of its SHA-256.
        certificate: Option<String>,
    },
}

/// Where the admin API is listened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// On TCP; with TLS or not.
    Tcp(SocketAddr, bool),
    /// On a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    /// As a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address, true) => write!(f, "https://{address}"),
            Self::Tcp(address, false) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why nobody can listen for the admin API.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// On this address.
    #[error("{0}: {1}")]
    Tcp(SocketAddr, #[source] io::Error),
    /// On this socket.
    #[error("{}: {error}", socket.display())]
    Unix {
        /// Its path.
        socket: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

/// Bound sockets that nobody accepts from yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(super) tcp: Vec<std::net::TcpListener>,
    pub(super) unix: Option<Door>,
    is_tls: bool,
}

impl Listeners {
    pub(crate) fn bind(
        addresses: &[SocketAddr],
        socket: Option<&Path>,
        is_tls: bool,
        handed: &mut Handed,
    ) -> Result<Self, ListenError> {
        let tcp = addresses.iter().map(|address| {
            let taken = handed.listener(*address);
            let listener = taken.map_or_else(|| std::net::TcpListener::bind(address), Ok);
            let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
            listener.map_err(|error| ListenError::Tcp(*address, error))
        });
        let tcp = tcp.collect::<Result<_, _>>()?;
        let unix = socket.map(|path| {
            let door = match handed.unix(path) {
                Some(listener) => Door::take_over(listener, path),
                None => Door::open(path),
            };
            door.map_err(|error| ListenError::Unix { socket: path.to_owned(), error })
        });
        Ok(Self { tcp, unix: unix.transpose()?, is_tls })
    }

    /// Where they listen, TCP first.
    pub(crate) fn addresses(&self) -> Vec<AdminAddress> {
        let tcp = self.tcp.iter().filter_map(|listener| listener.local_addr().ok());
        let tcp = tcp.map(|address| AdminAddress::Tcp(address, self.is_tls));
        tcp.chain(self.unix.iter().map(|door| AdminAddress::Unix(door.path.clone()))).collect()
    }
}

impl Listeners {
    /// Each of them once more, for a process that takes over.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let tcp = self.tcp.iter().map(|listener| listener.try_clone().map(OwnedFd::from));
        let unix = self.unix.iter().map(|door| door.listener.try_clone().map(OwnedFd::from));
        tcp.chain(unix).collect()
    }

    /// Set as long as another process has the name in the file system.
    pub(crate) fn disowned(&self) -> Arc<AtomicBool> {
        self.unix.as_ref().map(|door| Arc::clone(&door.is_disowned)).unwrap_or_default()
    }
}

/// A Unix socket in the file system, which goes when this does, unless another process has it then.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: StdUnixListener,
    path: PathBuf,
    is_disowned: Arc<AtomicBool>,
}

impl Door {
    /// The one that the process before has, and keeps unless this one takes over.
    fn take_over(listener: StdUnixListener, path: &Path) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.to_owned(), is_disowned: Arc::new(AtomicBool::new(true)) })
    }

    /// Makes a socket that only the node's user can connect to. One that another process left behind is replaced; one that
    /// somebody listens on is not, nor is any other kind of file.
    fn open(path: &Path) -> io::Result<Self> {
        make_directory(path)?;
        if let Ok(metadata) = fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there, and no socket"));
            }
            if StdUnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
            }
        }
        // It gets its name when its mode is right: nobody connects in between.
        let made = path.with_extension(format!("{}.tmp", std::process::id()));
        let _ = fs::remove_file(&made);
        let listener = StdUnixListener::bind(&made)?;
        let named = fs::set_permissions(&made, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&made, path))
            .and_then(|()| listener.set_nonblocking(true));
        if let Err(error) = named {
            let _ = fs::remove_file(&made);
            return Err(error);
        }
        Ok(Self { listener, path: path.to_owned(), is_disowned: Arc::default() })
    }
}

/// Makes the directory that a socket is to lie in, if that is not there.
fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|directory| !directory.as_os_str().is_empty() && !directory.is_dir()) {
        Some(directory) => DirBuilder::new().mode(0o750).create(directory),
        None => Ok(()),
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if !self.is_disowned.load(Ordering::Relaxed) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_missing_is_made_and_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pinwire/admin.sock");
        let _door = Door::open(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()) & 0o007, 0);
        assert!(Door::open(&home.path().join("no/such/admin.sock")).is_err());
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        drop(StdUnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let door = Door::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = Door::open(&path).unwrap_err();
        assert!(refused.to_string().contains("another process listens there"), "{refused}");
        assert!(StdUnixStream::connect(&path).is_ok());
        drop(door);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_socket_of_the_process_before_stays_unless_this_one_takes_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let before = Door::open(&path).unwrap();
        let next = || Door::take_over(before.listener.try_clone().unwrap(), &path).unwrap();
        drop(next());
        assert!(path.exists(), "the next one did not start");
        let next = next();
        next.is_disowned.store(false, Ordering::Relaxed);
        before.is_disowned.store(true, Ordering::Relaxed);
        drop(before);
        assert!(path.exists());
        drop(next);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(Door::open(&path).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
