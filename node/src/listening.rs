//! The sockets that data threads listen on: bound here, or taken over from the process before.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Config;
use crate::data::Listening;
use crate::drain::OfThreads;
use crate::node::StartError;
use crate::upgrade::Handed;

/// How long a port may be taken: the rings of a process that was killed keep its sockets for a moment.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
const PORT_RETRY: Duration = Duration::from_millis(20);
/// Connections the kernel keeps for us between two accepts.
const BACKLOG: i32 = 4096;

/// Listeners of each data thread.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) threads: Vec<Listening>,
    /// Where they listen, each address once, those with TLS first.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Listeners {
    /// A listener per address and data thread, all of one address sharing its port: the kernel spreads connections over them. Those
    /// that were handed over are all taken, since connections wait in each.
    pub(crate) fn open(config: &Config, handed: &mut Handed) -> Result<Self, StartError> {
        let count = config.threads.max(1);
        let mut threads: Vec<Listening> = (0..count).map(|_| Listening::default()).collect();
        let mut addresses = Vec::new();
        for (number, wanted) in config.addresses().enumerate() {
            let is_tls = number < config.tls_addresses();
            let wrong = |error| StartError::Listen(wanted, error);
            let taken = handed.listeners(wanted);
            let mut address = wanted;
            match taken.first() {
                Some(first) => address = first.local_addr()?,
                None => check_free(address).map_err(wrong)?,
            }
            let mut open = taken;
            while open.len() < count {
                let listener = bind(address).map_err(wrong)?;
                // Port 0: the first gets a free port, the others share it.
                address = listener.local_addr()?;
                open.push(listener);
            }
            addresses.push(address);
            for (at, listener) in open.into_iter().enumerate() {
                if let Some(thread) = threads.get_mut(at % count) {
                    thread.listeners.push(listener);
                    thread.tls.push(is_tls);
                }
            }
        }
        Ok(Self { threads, addresses })
    }

    /// Each of them once more, for a process that takes over.
    pub(crate) fn copies(&self) -> io::Result<OfThreads> {
        let of_thread = |thread: &Listening| thread.listeners.iter().map(TcpListener::try_clone).collect();
        self.threads.iter().map(of_thread).collect()
    }

    /// Makes the same listeners anew, in the order of each thread's.
    pub(crate) fn again(&self) -> impl Fn() -> io::Result<OfThreads> + Send + Sync + 'static {
        let of_thread = |thread: &Listening| {
            thread.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
        };
        let wanted: Vec<Vec<SocketAddr>> = self.threads.iter().map(of_thread).collect();
        move || {
            wanted.first().into_iter().flatten().try_for_each(|address| check_free(*address))?;
            wanted.iter().map(|addresses| addresses.iter().map(|address| bind(*address)).collect()).collect()
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails if another process listens there: sharing the port would otherwise give it half of our connections.
fn check_free(address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + PORT_PATIENCE;
    loop {
        match socket(address)?.bind(&address.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::park_timeout(PORT_RETRY);
            }
            outcome => return outcome,
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;

    use super::*;
    use pinwire_token::KeySet;

    fn config(address: SocketAddr, threads: usize) -> Config {
        Config::dev(address, threads, KeySet::default())
    }

    fn copies(of: &Listeners) -> Vec<OwnedFd> {
        of.copies().unwrap().into_iter().flatten().map(OwnedFd::from).collect()
    }

    #[test]
    fn what_was_handed_over_is_taken_whole_whatever_the_threads() {
        let before =
            Listeners::open(&config("127.0.0.1:0".parse().unwrap(), 3), &mut Handed::default()).unwrap();
        let address = before.addresses[0];
        let waiting: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        for threads in [1, 5] {
            let mut handed = Handed::new(copies(&before));
            let next = Listeners::open(&config(address, threads), &mut handed).unwrap();
            assert_eq!(next.addresses, [address]);
            let counts: Vec<usize> = next.threads.iter().map(|thread| thread.listeners.len()).collect();
            assert_eq!(counts, if threads == 1 { vec![3] } else { vec![1; 5] });
        }
        let mut handed = Handed::new(copies(&before));
        let next = Listeners::open(&config(address, 1), &mut handed).unwrap();
        drop(before);
        // Nobody who waits is lost with the process that it came to.
        let mut accepted = 0;
        for listener in &next.threads[0].listeners {
            listener.set_nonblocking(true).unwrap();
            accepted += std::iter::from_fn(|| listener.accept().ok()).count();
        }
        assert_eq!(accepted, waiting.len());
    }

    #[test]
    fn a_port_that_another_process_has_is_not_shared_unasked() {
        let before =
            Listeners::open(&config("127.0.0.1:0".parse().unwrap(), 1), &mut Handed::default()).unwrap();
        let again = Listeners::open(&config(before.addresses[0], 1), &mut Handed::default());
        assert!(matches!(again, Err(StartError::Listen(..))), "{again:?}");
    }
}
