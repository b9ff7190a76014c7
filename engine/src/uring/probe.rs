//! Which operations the kernel has to know.

use io_uring::{IoUring, Probe, opcode};

use crate::fallback::FallbackReason;

const NEEDED: [(u8, &str); 14] = [
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
    (opcode::Send::CODE, "SEND"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::TimeoutRemove::CODE, "TIMEOUT_REMOVE"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Shutdown::CODE, "SHUTDOWN"),
    (opcode::FilesUpdate::CODE, "FILES_UPDATE"),
    (opcode::MsgRingSendFd::CODE, "MSG_RING (Linux 5.18)"),
    (opcode::SetSockOpt::CODE, "URING_CMD for sockets (Linux 6.7)"),
    (opcode::FixedFdInstall::CODE, "FIXED_FD_INSTALL (Linux 6.8)"),
];

/// Asks the kernel for all of them.
pub(super) fn probe(ring: &IoUring) -> Result<(), FallbackReason> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| FallbackReason::of_step("probing operations", &error))?;
    match NEEDED.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(FallbackReason::Missing(name)),
        None => Ok(()),
    }
}
