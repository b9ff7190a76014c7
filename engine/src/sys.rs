//! System calls the standard library has no safe form of.
#![allow(unsafe_code, reason = "calls into libc; every use has its SAFETY note")]

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Takes over a descriptor the kernel just made.
///
/// # Safety
/// `fd` must be open and owned by nobody else.
pub(crate) unsafe fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed, and the descriptor is new.
    unsafe { Ok(own(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?)) }
}

/// Adds one to the counter; a full counter is already readable, so that failure means nothing.
pub(crate) fn eventfd_signal(fd: BorrowedFd<'_>) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer is alive and as long as stated.
    unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Sets the counter to zero; true when it was not.
pub(crate) fn eventfd_clear(fd: BorrowedFd<'_>) -> bool {
    let mut count = [0u8; 8];
    // SAFETY: the buffer is alive, writable and as long as stated.
    unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) == 8 }
}

pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed, and the descriptor is new.
    unsafe { Ok(own(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?)) }
}

pub(crate) fn epoll_add(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>, events: i32, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: data };
    // SAFETY: `event` is alive for the call; the kernel copies it.
    check(unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event)
    })?;
    Ok(())
}

pub(crate) fn epoll_delete(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: DEL reads no event.
    check(unsafe {
        libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), std::ptr::null_mut())
    })?;
    Ok(())
}

pub(crate) type EpollEvent = libc::epoll_event;

pub(crate) fn no_epoll_event() -> EpollEvent {
    libc::epoll_event { events: 0, u64: 0 }
}

/// What is ready now, without waiting; returns how many of `events` were filled.
pub(crate) fn epoll_now(epoll: BorrowedFd<'_>, events: &mut [EpollEvent]) -> io::Result<usize> {
    epoll_wait(epoll, events, 0)
}

/// As `epoll_now`, but waits until something is ready.
pub(crate) fn epoll_sleep(epoll: BorrowedFd<'_>, events: &mut [EpollEvent]) -> io::Result<usize> {
    epoll_wait(epoll, events, -1)
}

fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut [EpollEvent],
    timeout_ms: libc::c_int,
) -> io::Result<usize> {
    let room = libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel fills at most `room` events of a buffer that long.
    let filled =
        check(unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), room, timeout_ms) })?;
    Ok(filled.unsigned_abs() as usize)
}

pub(crate) fn timerfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed, and the descriptor is new.
    unsafe {
        Ok(own(check(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK))?))
    }
}

/// Fires once after `delay`.
pub(crate) fn timerfd_set(fd: BorrowedFd<'_>, delay: Duration) -> io::Result<()> {
    let delay = delay.max(Duration::from_nanos(1));
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let value = libc::timespec {
        tv_sec: libc::time_t::try_from(delay.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(delay.subsec_nanos()),
    };
    let spec = libc::itimerspec { it_interval: zero, it_value: value };
    // SAFETY: `spec` is alive for the call; the old value is not asked for.
    check(unsafe { libc::timerfd_settime(fd.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) })?;
    Ok(())
}

/// Takes one connection, non-blocking and closed on exec.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut address: libc::sockaddr_storage = unsafe { zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the kernel writes at most `length` bytes to `address`, which is that long; the descriptor is new.
    let fd = unsafe {
        own(check(libc::accept4(listener.as_raw_fd(), (&raw mut address).cast(), &raw mut length, flags))?)
    };
    Ok((fd, socket_address(&address)))
}

/// A TCP socket for the address's family, closed on exec.
pub(crate) fn stream_socket(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is passed, and the descriptor is new.
    unsafe { Ok(own(check(libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?)) }
}

pub(crate) fn bind(fd: BorrowedFd<'_>, addr: &SocketAddr) -> io::Result<()> {
    let (storage, length) = kernel_address(addr);
    // SAFETY: the kernel reads `length` bytes of `storage`, which is at least that long.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), length) })?;
    Ok(())
}

pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(())
}

/// The address in the kernel's form, and how many bytes of it count.
fn kernel_address(addr: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let length = match addr {
        SocketAddr::V4(addr) => {
            // SAFETY: the storage is large and aligned enough for every family's address.
            let v4 = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_port = addr.port().to_be();
            v4.sin_addr.s_addr = u32::from(*addr.ip()).to_be();
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(addr) => {
            // SAFETY: as above.
            let v6 = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6.sin6_port = addr.port().to_be();
            v6.sin6_addr.s6_addr = addr.ip().octets();
            v6.sin6_flowinfo = addr.flowinfo();
            v6.sin6_scope_id = addr.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

/// The address in the standard library's form; 0.0.0.0:0 for other families.
pub(crate) fn socket_address(storage: &libc::sockaddr_storage) -> SocketAddr {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in, and it is large and aligned enough.
            let v4 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with sockaddr_in6.
            let v6 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into()
        }
        _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    }
}

/// Receives without waiting.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to it.
    check_size(unsafe {
        libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    })
}

/// Sends without waiting and without SIGPIPE.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the bytes are alive for the call and only read.
    check_size(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// As `send`, several pieces in one call, which the kernel has to copy the list of first.
pub(crate) fn send_vectored(fd: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: IoSlice has the layout of iovec, the pieces are alive for the call and only read.
    check_size(unsafe {
        libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    })
}

/// True when the descriptor is readable now.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure is passed, alive for the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

/// Sends FIN once everything before has left.
pub(crate) fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) })?;
    Ok(())
}

fn set_option<T>(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which is that long.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), length) })?;
    Ok(())
}

pub(crate) fn set_int(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    set_option(fd, level, name, &value)
}

/// The linger setting that makes close send RST.
pub(crate) static LINGER_ZERO: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

/// Makes the coming close send RST.
pub(crate) fn set_linger_zero(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &LINGER_ZERO)
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK))?;
    }
    Ok(())
}

/// Binds the calling thread to one processor.
pub(crate) fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all-zero bytes are the empty set, `core` is below its size, and the set is alive for the call.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(core, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set))?;
    }
    Ok(())
}

/// The processors the calling thread may run on, ascending.
pub(crate) fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: all-zero bytes are a valid set; the kernel fills at most its size; the indices are below it.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set))?;
        Ok((0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &set)).collect())
    }
}

/// The soft limit of open descriptors.
pub(crate) fn descriptor_limit() -> u32 {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the kernel fills the structure when it returns 0, and only then is it read.
    let soft = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) != 0 {
            return 1024;
        }
        limit.assume_init().rlim_cur
    };
    u32::try_from(soft).unwrap_or(u32::MAX)
}
